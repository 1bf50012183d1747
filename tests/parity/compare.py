"""Builds our model of a case, loads the reference's weights and compares the outputs."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from densevit.converters import build, load_weights
from densevit.converters.config_spec import UnsupportedModelError
from densevit.errors import UserError

from .case import Case
from .probes import probe_of
from .probes.semantic import model_on_given_maps

FLIPPED_PIXELS = re.compile(r"det_masks_bits_\d+|det_mask_area")
"""Outputs of masks after the threshold: a few pixels lie within rounding of it and may flip."""
FLIPPED_LIMIT = 4
EXACT = re.compile(r"det_labels|(det|proposal)_counts?|roi_labels|mean_per_image/.*|(whole|slide)_pred_\d+")
NOT_OURS = re.compile(r"(features|logits|probabilities|probs|cls_token|stage\d+_cls|stage4_tokens)$")
"""Outputs of parts that we do not have: classification, a class token's own output, and the last tokens of PVT v1's
classifier, in which a class token attends."""


def compare(path: Path, tolerance: float | None = None) -> tuple[str, str, list[str]]:
    """Run one case.

    Args:
        tolerance: largest allowed error, instead of the case's own.

    Returns:
        the verdict (ok, FAIL, SKIP, PART), what to print after the name, and further lines.
    """
    case = Case(path)
    if not case.spec["state"]:
        return "PART", "calls of single parts, for tests written by hand", []
    state, inputs = case.state(), case.inputs()
    try:
        model = build_model(case, state)
    except UnsupportedModelError as reason:
        return "SKIP", str(reason), []
    except UserError as error:
        return "FAIL", str(error), []
    try:
        report = load_weights(model, state, source=case.spec["scheme"])
        with torch.no_grad():
            probe = probe_of(model.eval(), case.spec)
            readings = probe(model, inputs, case.spec, state)
    except UserError as error:
        return "FAIL", str(error), []
    probes = best_reading(readings, case)
    errors, faults = errors_of(case, probes, tolerance)
    worst = max(errors, key=errors.get, default=None)
    if worst is None:
        faults.append("nothing was compared")
    faults += [f"{name} differ" for name, error in errors.items() if EXACT.fullmatch(name) and error > 0]
    limit = case.spec["tolerance"] if tolerance is None else tolerance
    failed = faults or errors[worst] > limit
    text = f"compared {len(errors)} of {len(case.spec['outputs'])} outputs"
    if worst is not None:
        text += f"  {worst} {errors[worst]:.2e}"
    lines = [str(report)]
    lines += [f"not compared: {name}" for name in case.spec["outputs"] if name not in probes and NOT_OURS.match(name)]
    lines += [f"{name} {error:.2e}" for name, error in errors.items()]
    return "FAIL" if failed else "ok", "; ".join([text, *faults]), lines


def build_model(case: Case, state: dict[str, Tensor]) -> nn.Module:
    """Our model of the reference's configuration. Raises UserError; UnsupportedModelError: one that we do not have."""
    if "decode_head" in case.spec["model"] and "backbone" not in case.spec["model"]:
        return build("densevit", model_on_given_maps(case.spec, case.inputs()))
    return build(case.spec["scheme"], case.spec["model"], names=state.keys())


def best_reading(readings: list[dict[str, Tensor]], case: Case) -> dict[str, Tensor]:
    """The reading that has most of the case's outputs in their shapes: projects count stages differently."""
    shapes = {name: tuple(how["shape"]) for name, how in case.spec["outputs"].items()}

    def matches(reading: dict[str, Tensor]) -> tuple[int, int]:
        known = shapes.keys() & reading.keys()
        return sum(tuple(reading[name].shape) == shapes[name] for name in known), len(known)

    return {name: x.detach() for name, x in max(readings, key=matches).items()}  # a table may be a parameter


def errors_of(case: Case, probes: dict[str, Tensor], tolerance: float | None) -> tuple[dict[str, float], list[str]]:
    """The error of each output, and what is wrong beside errors: shapes, missing tensors, flipped pixels."""
    errors, faults = {}, []
    for name in case.spec["outputs"]:
        if name not in probes:
            if not NOT_OURS.match(name):
                faults.append(f"no tensor of ours is {name}")
            continue
        ours = probes[name].numpy()
        try:
            if FLIPPED_PIXELS.fullmatch(name) and tolerance is None:
                if (number := case.flipped_pixels(name, ours)) > FLIPPED_LIMIT:
                    faults.append(f"{name}: {number} pixels differ")
                errors[name] = 0.0
            else:
                errors[name] = case.error(name, ours)
        except ValueError as error:
            faults.append(str(error))
    return errors, faults
