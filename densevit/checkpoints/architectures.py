"""Every architecture's tables of names and translations of configurations, by our class and by source."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from densevit.checkpoints import fpn, pvt, pvt_v2, rcnn, retinanet, swin, swin_configs, swin_v2
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.registry import MODELS

TABLES = {
    "PVT": pvt.TABLES,
    "PVTv2": pvt_v2.TABLES,
    "Swin": swin.TABLES,
    "SwinV2": swin_v2.TABLES,
    "FPN": fpn.TABLES,
    "RetinaNetHead": retinanet.TABLES,
    "MaskRCNNHead": rcnn.MASK_RCNN_TABLES,
    "CascadeHead": rcnn.CASCADE_TABLES,
}
"""Our class -> source -> rules."""

FRESH = {"Swin": r"norm\d+\.(weight|bias)", "SwinV2": r"norm\d+\.(weight|bias)"}
"""Our class -> names that a classifier's file has nothing for by nature: the norms of a dense model's maps."""

PARTS: dict[tuple[str, str], Callable[[Settings], dict]] = {
    **pvt.CONFIGS,
    **pvt_v2.CONFIGS,
    **swin_configs.CONFIGS,
    **swin_v2.CONFIGS,
    **fpn.CONFIGS,
}
"""(source, their type) -> our configuration of the part."""


def translate_part(source: str, settings: Settings) -> dict[str, Any]:
    """Our configuration of one part. Raises NotBuilt where densevit has no counterpart."""
    known = PARTS.get((source, settings.type))
    if known is None and source == "mmdet":  # mmdetection 2.x around whai362's own backbones
        known = PARTS.get(("whai362", settings.type))
    if known is None:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r} of {source}, which densevit has no counterpart of.")
    return known(settings)


def maps_of(backbone: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the maps that our configuration of a backbone gives, as it publishes them itself."""
    with torch.device("meta"):
        built = MODELS.build(dict(backbone))
    return tuple(built.out_channels), tuple(built.out_strides)
