"""mmcv-lite lacks mmcv's compiled operators, and mmdetection imports them all: the two that its detectors need come
from torchvision, and the others raise an error when they are called."""

import importlib.machinery
import sys
import types
from typing import Any

import torchvision
from torch import Tensor, nn


class _Operators(types.ModuleType):
    """mmcv._ext: `nms`, and a function that refuses under every other name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"mmcv's operator {name!r} is compiled and not part of mmcv-lite")

        return refuse

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """Indices of the boxes that are kept, best first. torchvision has no half-precision kernel on CPUs."""
        if offset:
            raise NotImplementedError("torchvision's nms has no offset")
        return torchvision.ops.nms(boxes.float(), scores.float(), float(iou_threshold))


def install() -> None:
    """Install the operators; call it before mmcv.ops is imported for the first time."""
    if "mmcv._ext" in sys.modules or importlib.machinery.PathFinder.find_spec("mmcv") is None:
        return
    import mmcv

    if importlib.machinery.PathFinder.find_spec("mmcv._ext", mmcv.__path__) is not None:
        return  # a full mmcv
    operators = _Operators("mmcv._ext")
    operators.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = operators


def use_torchvision(model: nn.Module) -> None:
    """Switch mmcv's RoIAlign layers to torchvision's operator, which they support."""
    for module in model.modules():
        if type(module).__name__ == "RoIAlign":
            module.use_torchvision = True


def without_sync(config: Any) -> Any:
    """A config with BatchNorm in place of SyncBatchNorm, which CPUs and single processes do not have."""
    if isinstance(config, dict):
        for key, value in config.items():
            config[key] = "BN" if key == "type" and value == "SyncBN" else without_sync(value)
        return config
    return type(config)(map(without_sync, config)) if isinstance(config, (list, tuple)) else config
