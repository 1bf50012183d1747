"""Which of our tensors the outputs of a case are: one probe for each kind of model.

A probe takes (model, inputs, spec, state) and returns a list of readings, each a dict from an output's name to our
tensor; where there are several, the one that fits the case's outputs best is taken.
"""

from collections.abc import Callable

from torch import nn

from .backbones import probe_adapter, probe_mvit, probe_pyramid, probe_vit
from .depth import probe_depth
from .detectors import probe_rcnn, probe_retinanet
from .detectron2 import probe_detectron2
from .semantic import probe_semantic

BACKBONES = {"ViT": probe_vit, "MViTv2": probe_mvit, "ViTAdapter": probe_adapter}


def probe_of(model: nn.Module, spec: dict) -> Callable[..., list[dict]]:
    """The probe for a model and the source that its case comes from."""
    detectron2 = spec["scheme"] == "detectron2"
    if not hasattr(model, "backbone"):
        kind = type(model).__name__
        return probe_detectron2 if detectron2 and kind == "ViT" else BACKBONES.get(kind, probe_pyramid)
    head = getattr(model, "head", None)
    if detectron2:
        return probe_detectron2
    if getattr(head, "semantic", False):
        return probe_semantic
    if getattr(head, "pred_key", None) == "pred_depth":
        return probe_depth
    return probe_rcnn if hasattr(head, "rpn") else probe_retinanet
