"""Reads the stored calls of mmdetection's parts (losses, assigners, coders, anchors, NMS) for the tests of ours."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import torch


def read_case(folder: Path, name: str) -> SimpleNamespace:
    """A case by name: `inputs` as tensors, `model` its arguments, `state` names and shapes of its weights.

    `error(output, ours)` is our relative error; `outputs` are their names, `output(name)` what is stored of one.
    """
    spec = importlib.util.spec_from_file_location("parity_case", folder / "parity_case.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    case = module.Case(folder / name)
    inputs = {key: torch.from_numpy(value) for key, value in module.inputs_of(case).items()}
    return SimpleNamespace(
        inputs=inputs,
        model=case.spec["model"],
        error=case.error,
        state=case.spec["state"],
        outputs=list(case.spec["outputs"]),
        output=lambda output: case.arrays[f"output/{output}"],
    )
