"""Every architecture's tables of names and translations of configurations, by our class and by source."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from densevit.checkpoints import (
    dpt,
    fpn,
    mvit_v2,
    pvt,
    pvt_v2,
    rcnn,
    retinanet,
    segmenter,
    semantic_fpn,
    setr,
    swin,
    swin_configs,
    swin_v2,
    upernet,
    vit,
    vit_adapter,
    vit_configs,
    vit_detectron2,
    vit_timm,
    vit_transformers,
)
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.registry import MODELS

TABLES = {
    "PVT": pvt.TABLES,
    "PVTv2": pvt_v2.TABLES,
    "Swin": swin.TABLES,
    "SwinV2": swin_v2.TABLES,
    "ViT": vit.TABLES,
    "ViTAdapter": vit_adapter.TABLES,
    "MViTv2": mvit_v2.TABLES,
    "TimmBackbone": {"timm": [Rule("*", "model.*")]},
    "FPN": fpn.TABLES,
    "UPerNet": upernet.FUSION,
    "SimplePyramid": {"detectron2": [Rule("*", "*")]},  # ours are its names
    "MultiLevelNeck": upernet.MULTI_LEVEL,
    "DeconvPyramid": upernet.DECONV,
    "MLANeck": setr.NECK,
    "RetinaNetHead": retinanet.TABLES,
    "MaskRCNNHead": rcnn.MASK_RCNN_TABLES,
    "CascadeHead": rcnn.CASCADE_TABLES,
    "FCNHead": {**upernet.FCN, "rstrudel": segmenter.LINEAR},
    "SemanticFPNHead": semantic_fpn.TABLES,
    "SETRHead": setr.HEAD,
    "SegmenterHead": segmenter.MASK,
    **dpt.TABLES,
}
"""Our class -> source -> rules, or what makes them of the names in a file."""

FRESH = {
    "Swin": r"norm\d+\.(weight|bias)",
    "SwinV2": r"norm\d+\.(weight|bias)",
    "ViT": vit.FRESH,
    "MViTv2": mvit_v2.FRESH,
}
"""Our class -> names that a classifier's file has nothing for by nature: the norms of a dense model's maps."""

GROWN = {"ViT": vit.GROWN}
"""Our class -> kinds of names of parts that are added to a pretrained network and at first change nothing: all of a
kind are missing in files of such networks."""

OPTIONAL = {"ViT": vit.OPTIONAL}
"""Our class -> names that follow from the configuration, whether a file states them or not."""

UNUSED = {
    "ViT": vit.UNUSED,
    "MViTv2": mvit_v2.UNUSED,
    "TimmBackbone": r".*\.(relative_position_index|relative_coords_table|attn_mask)",  # computed, in older files
}
"""Our class -> names that files have and a model of the class may be configured to do without."""

PARTS: dict[tuple[str, str], Callable[[Settings], dict]] = {
    **pvt.CONFIGS,
    **pvt_v2.CONFIGS,
    **swin_configs.CONFIGS,
    **swin_v2.CONFIGS,
    **vit_configs.CONFIGS,
    **vit_detectron2.CONFIGS,
    **vit_adapter.CONFIGS,
    **vit_transformers.CONFIGS,
    **vit_timm.CONFIGS,
    **mvit_v2.CONFIGS,
    **fpn.CONFIGS,
    **upernet.CONFIGS,
    **setr.CONFIGS,
}
"""(source, their type) -> our configuration of the part."""


def translate_part(source: str, settings: Settings) -> dict[str, Any]:
    """Our configuration of one part. Raises NotBuilt where densevit has no counterpart."""
    known = PARTS.get((source, settings.type))
    if known is None and source in ("mmdet", "mmseg"):  # their older versions around whai362's own backbones
        known = PARTS.get(("whai362", settings.type))
    if known is None and source == "timm" and str(settings.type).startswith(("vit_", "deit", "eva")):
        known = vit_timm.from_name
    if known is None:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r} of {source}, which densevit has no counterpart of.")
    return known(settings)


def maps_of(
    backbone: Mapping[str, Any], neck: Mapping[str, Any] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the maps that our configuration of a backbone, or of a neck behind it, gives, as it
    publishes them itself."""
    with torch.device("meta"):
        built = MODELS.build(dict(backbone))
        if neck is not None:
            known = {"in_channels": built.out_channels, "in_strides": built.out_strides}
            built = MODELS.build(dict(neck), default_args=known)
    return tuple(built.out_channels), tuple(built.out_strides)
