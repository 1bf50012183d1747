"""The process of one project: reads requests, a line of JSON each, and answers each with a line of JSON.

Whatever the project prints goes to stderr; stdout is for the answers.
"""

import contextlib
import importlib
import json
import os
import sys
import traceback
from typing import Any

BACKENDS = {
    "densevit": ("densevit", "DensevitModel"),
    "mmdet": ("mmlab", "Detector"),
    "mmseg": ("mmlab", "Segmentor"),
    "timm": ("timm_models", "TimmModel"),
    "transformers": ("transformers_models", "TransformersModel"),
    "torchvision": ("torchvision_models", "TorchvisionModel"),
    "densevit data": ("pipelines", "DensevitPipeline"),
    "mmdet data": ("pipelines", "DetectionPipeline"),
    "mmseg data": ("pipelines", "SegmentationPipeline"),
}
"""Project -> module and class."""


def main() -> None:
    """Serve until the pipe closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of whatever is imported
    sys.stdout = sys.stderr
    backend: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                backend, answer = _open(request)
            else:
                answer = getattr(backend, request["do"])(*request.get("arguments", ()))
        except Exception as error:
            answer = {"failed": type(error).__name__, "message": " ".join(str(error).split())[:500]}
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
    module, name = BACKENDS[request["project"]]
    backend = getattr(importlib.import_module(f".{module}", __package__), name)(request)
    return backend, backend.facts()
