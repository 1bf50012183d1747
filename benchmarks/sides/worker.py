"""The process of one side: reads what is asked for, a line of JSON each, and answers with one.

Whatever the project prints goes to stderr; the pipe is kept for the answers.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
from typing import Any

SIDES = {
    "densevit": ("own", "OwnModel"),
    "mmdet": ("mmlab", "Detector"),
    "mmseg": ("mmlab", "Segmentor"),
    "timm": ("timm_models", "TimmModel"),
    "transformers": ("transformers_models", "TransformersModel"),
    "torchvision": ("torchvision_models", "TorchvisionModel"),
    "densevit data": ("pipelines", "OwnPipeline"),
    "mmdet data": ("pipelines", "DetectionPipeline"),
    "mmseg data": ("pipelines", "SegmentationPipeline"),
}
"""Project -> the module here and the class in it."""


def main() -> None:
    """Serve until the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of whatever is imported
    sys.stdout = sys.stderr
    side: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                side, answer = _open(request)
            else:
                answer = getattr(side, request["do"])(*request.get("arguments", ()))
        except Exception as error:
            answer = {"failed": type(error).__name__, "says": " ".join(str(error).split())[:500]}
            answer["missing"] = getattr(error, "name", None) if isinstance(error, ImportError) else None
            answer["trace"] = traceback.format_exc()
        else:
            answer = {"done": answer}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), file=answers)


def _open(request: dict) -> tuple[Any, dict]:
    import torch

    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    if request["device"] != "cpu":
        torch.zeros(1, device=request["device"])
    module, name = SIDES[request["project"]]
    side = getattr(importlib.import_module(f".{module}", __package__), name)(request)
    return side, side.facts()
