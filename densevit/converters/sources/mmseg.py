"""mmsegmentation: segmentation models put together of parts. Its files carry configurations as mmdetection's do."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from densevit.converters.architectures import dpt, fcn, segmenter, semantic_fpn, setr, translate_part, upernet
from densevit.converters.architectures import maps_of as maps_of_backbone
from densevit.converters.config_spec import ConfigReader, ConfigSpec, Only, UnsupportedModelError, listed
from densevit.converters.openmmlab import PREPROCESSOR, sliding_window
from densevit.converters.source import Prefix, Source
from densevit.errors import ConfigError
from densevit.registry import MODELS as REGISTRY

Head = tuple[list[dict[str, Any]] | dict[str, Any] | None, dict[str, Any]]
"""A neck of ours that a head of theirs contains, or several, and our head."""
HEADS: dict[str, Callable[[ConfigReader], Head]] = {
    "UPerHead": upernet.FUSED, "FCNHead": fcn.FCN, "FPNHead": semantic_fpn.HEAD, "SETRUPHead": setr.ONE_MAP,
    "SETRMLAHead": setr.SEVERAL_MAPS, "SegmenterMaskTransformerHead": segmenter.HEAD, "DPTHead": dpt.HEAD,
}  # fmt: skip
"""mmsegmentation's type -> what makes our parts of its configuration."""
POOLED_AND_FUSED = ("psp_modules.", "bottleneck.", "lateral_convs.", "fpn_convs.", "fpn_bottleneck.")
"""First words of what belongs to our UPerNet in a head that also classifies."""
PADDED = PREPROCESSOR.but(
    keys={"test_cfg": (None, None, ConfigSpec(keys={"size_divisor": ("size_divisor", None)}, fixed={"size": None}))},
    fixed={"pad_val": Only(0, [0.0]), "seg_pad_val": 255},
    ignored=("size_divisor",),  # of batches in training
    accepts=(None, "SegDataPreProcessor", "BaseDataPreprocessor"),
)
"""In prediction its `test_cfg` alone pads."""


class Maps(NamedTuple):
    """Channels and strides of maps, fine to coarse."""

    channels: tuple[int, ...]
    strides: tuple[float, ...]


def encoder_decoder(source: str, model: ConfigReader) -> dict[str, Any]:
    """EncoderDecoder around a backbone of `source`'s or its own."""
    backbone = translate_part(source, model.part("backbone"))
    if not dpt.needs_token(model.remaining.get("decode_head", {})):
        backbone.pop("append_cls_token", None)
    rest = behind_backbone(source, model, *maps_of_backbone(backbone))
    reader = model.optional("data_preprocessor") or ConfigReader({}, f"{model.where}.data_preprocessor")
    size = reader.pop("size", None)
    prepared = PADDED(reader)
    prepared["size_divisor"] = prepared.get("size_divisor") or 1
    prepared |= {} if size is None else {"train_size": tuple(size)}
    test = model.optional("test_cfg")
    windows = sliding_window(test) if test is not None else None
    model.ignore("train_cfg", "pretrained", "init_cfg")
    model.finish()
    whole = {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, **rest}
    return whole if windows is None else {**whole, "inference": windows}


def behind_backbone(
    source: str, model: ConfigReader, channels: tuple[int, ...], strides: tuple[int, ...]
) -> dict[str, Any]:
    """What mmsegmentation has behind a backbone that gives maps of these channels and strides: our `neck`, `head` and
    `auxiliary`."""
    maps, necks = Maps(channels, strides), []
    part = model.optional("neck")
    if part is not None:
        neck = translate_part(source, part)
        if (stated := tuple(neck.pop("in_channels"))) != maps.channels:
            raise ConfigError(f"{part.where}.in_channels are {stated}, but the backbone gives {maps.channels}.")
        necks.append(neck)
        with torch.device("meta"):
            built = REGISTRY.build(dict(neck), default_args={"in_channels": channels, "in_strides": strides})
        maps = Maps(tuple(built.out_channels), tuple(built.out_strides))
    fusing, head = _head(model.part("decode_head"), maps)
    heads, auxiliary = model.pop("auxiliary_head", None) or [], []
    several = isinstance(heads, (list, tuple))
    for i, config in enumerate(heads if several else [heads]):
        part = ConfigReader(config, f"{model.where}.auxiliary_head" + (f"[{i}]" if several else ""))
        inner, extra = _head(part, maps)
        if inner is not None:
            raise UnsupportedModelError(
                f"{part.where}.type is {part.type!r}; densevit has heads without a neck of their own there."
            )
        extra.setdefault("in_index", tuple(range(len(maps.channels))))
        auxiliary.append({**extra, "neck_index": len(necks)})
    necks += fusing if isinstance(fusing, list) else [fusing] if fusing is not None else []
    config: dict[str, Any] = {"neck": necks[0] if len(necks) == 1 else necks} if necks else {}
    config["head"] = head
    return {**config, "auxiliary": auxiliary} if auxiliary else config


def _head(reader: ConfigReader, maps: Maps) -> Head:
    """One head on some of the maps."""
    if reader.type not in HEADS:
        raise UnsupportedModelError(
            f"{reader.where}.type is {reader.type!r} of mmseg, which densevit has no counterpart of."
        )
    reader.require("input_transform", None, ["multiple_select"])
    index, stated = (listed(reader.pop(*given)) for given in (("in_index", -1), ("in_channels",)))
    count = len(maps.channels)
    if not all(-count <= i < count for i in index):
        raise ConfigError(f"{reader.where}.in_index is {index}, but there are {count} maps.")
    index = tuple(i % count for i in index)
    given = [maps.channels[i] for i in index]
    if dpt.needs_token({"type": reader.type, **reader.remaining}):  # their number does not count the token
        stated = [2 * channels for channels in stated]
    if given != stated:
        raise ConfigError(f"{reader.where}.in_channels are {stated}, but the maps that it reads have {given}.")
    neck, head = HEADS[reader.type](reader)
    strides = [maps.strides[i] for i in index]
    for_strides = head.pop("in_strides", strides)
    if [s / for_strides[0] for s in for_strides] != [s / strides[0] for s in strides]:
        raise ConfigError(f"{reader.where} is for maps of strides {for_strides}, but they have {strides}.")
    if index != tuple(range(count)):
        if neck is not None:
            raise UnsupportedModelError(
                f"{reader.where}.in_index is {index}; densevit's necks behind it take all {count} maps."
            )
        head["in_index"] = index
    return neck, head


PREFIXES = (
    Prefix("backbone.", "backbone."), Prefix("neck.", "neck."), Prefix("neck.", "neck.0."),
    *(Prefix(f"decode_head.{word}", "UPerNet", word) for word in POOLED_AND_FUSED),
    Prefix("decode_head.reassemble_blocks.", "DPTReassemble"),
    *(Prefix(f"decode_head.{word}.", "DPTFusion", f"{word}.") for word in ("convs", "fusion_blocks")),
    Prefix("decode_head.", "head."), Prefix("auxiliary_head.{}.", "auxiliary.{}."),
    Prefix("auxiliary_head.", "auxiliary.0."),
)  # fmt: skip
MODELS = {"EncoderDecoder": encoder_decoder}
SOURCE = Source(PREFIXES, MODELS)
