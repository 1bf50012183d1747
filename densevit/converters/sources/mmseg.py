"""mmsegmentation: segmentation models put together of parts. Its files carry configurations as mmdetection's do."""

from typing import Any, NamedTuple

from densevit.converters.architectures import dpt, segmenter, semantic_heads
from densevit.converters.config_spec import (
    ConfigReader,
    ConfigSpec,
    Only,
    UnsupportedModelError,
    maps_of,
    translate_part,
    whole_model,
)
from densevit.converters.openmmlab import PREPROCESSOR
from densevit.converters.source import Source, prefixes
from densevit.errors import ConfigError

HEADS = {**semantic_heads.HEADS, "SegmenterMaskTransformerHead": segmenter.HEAD, "DPTHead": dpt.HEAD}
"""mmsegmentation's type -> what makes our head of its configuration, with our neck under `neck`."""
PADDED = PREPROCESSOR.but(
    keys={"test_cfg": (None, None, ConfigSpec(keys={"size_divisor": ("size_divisor", None)}, fixed={"size": None}))},
    fixed={"pad_val": Only(0, [0.0]), "seg_pad_val": 255}, ignored="size_divisor",  # of batches in training
    accepts="None SegDataPreProcessor BaseDataPreprocessor",
)  # fmt: skip
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
    rest = behind_backbone(source, model, *maps_of(backbone))
    reader = model.optional("data_preprocessor") or ConfigReader({}, f"{model.where}.data_preprocessor")
    size = reader.pop("size", None)
    prepared = PADDED(reader)
    prepared["size_divisor"] = prepared.get("size_divisor") or 1
    prepared |= {} if size is None else {"train_size": tuple(size)}
    test = model.optional("test_cfg")
    windows = None if test is None else sliding_window(test)
    model.ignore("train_cfg", "pretrained", "init_cfg")
    model.finish()
    whole = whole_model(backbone, rest.pop("neck", None), rest.pop("head"), prepared, **rest)
    return whole if windows is None else {**whole, "inference": windows}


def behind_backbone(
    source: str, model: ConfigReader, channels: tuple[int, ...], strides: tuple[int, ...]
) -> dict[str, Any]:
    """What mmsegmentation has behind a backbone that gives maps of these channels and strides: our `neck`, `head` and
    `auxiliary`."""
    maps, necks, auxiliary = Maps(channels, strides), [], []
    if (part := model.optional("neck")) is not None:
        neck = translate_part(source, part)
        if (stated := tuple(neck.pop("in_channels"))) != channels:
            raise ConfigError(f"{part.where}.in_channels are {stated}, but the backbone gives {channels}.")
        necks, maps = [neck], Maps(*maps_of(neck, in_channels=channels, in_strides=strides))
    head = _head(model.part("decode_head"), maps)
    heads = model.pop("auxiliary_head", None) or []
    several = isinstance(heads, (list, tuple))
    for i, config in enumerate(heads if several else [heads]):
        part = ConfigReader(config, f"{model.where}.auxiliary_head" + (f"[{i}]" if several else ""))
        extra = _head(part, maps)
        if "neck" in extra:
            raise UnsupportedModelError(
                f"{part.where}.type is {part.type!r}; densevit has heads without a neck of their own there."
            )
        auxiliary.append({"in_index": tuple(range(len(maps.channels))), **extra, "neck_index": len(necks)})
    fusing = head.pop("neck", [])
    necks += fusing if isinstance(fusing, list) else [fusing]
    config: dict[str, Any] = {"neck": necks[0] if len(necks) == 1 else necks} if necks else {}
    return {**config, "head": head, **({"auxiliary": auxiliary} if auxiliary else {})}


def _head(reader: ConfigReader, maps: Maps) -> dict[str, Any]:
    """One head on some of the maps."""
    if reader.type not in HEADS:
        raise UnsupportedModelError(
            f"{reader.where}.type is {reader.type!r} of mmseg, which densevit has no counterpart of."
        )
    reader.require("input_transform", None, ["multiple_select"])
    index, stated = reader.pop("in_index", -1), reader.pop("in_channels")
    index, stated = (list(given) if isinstance(given, (list, tuple)) else [given] for given in (index, stated))
    count = len(maps.channels)
    if not all(-count <= i < count for i in index):
        raise ConfigError(f"{reader.where}.in_index is {index}, but there are {count} maps.")
    index = tuple(i % count for i in index)
    given = [maps.channels[i] for i in index]
    if dpt.needs_token({"type": reader.type, **reader.remaining}):  # their number does not count the token
        stated = [2 * channels for channels in stated]
    if given != stated:
        raise ConfigError(f"{reader.where}.in_channels are {stated}, but the maps that it reads have {given}.")
    head, strides = HEADS[reader.type](reader), [maps.strides[i] for i in index]
    for_strides = head.pop("in_strides", strides)
    if [s / for_strides[0] for s in for_strides] != [s / strides[0] for s in strides]:
        raise ConfigError(f"{reader.where} is for maps of strides {for_strides}, but they have {strides}.")
    if index != tuple(range(count)):
        if "neck" in head:
            raise UnsupportedModelError(
                f"{reader.where}.in_index is {index}; densevit's necks behind it take all {count} maps."
            )
        head["in_index"] = index
    return head


def sliding_window(test: ConfigReader) -> dict[str, Any] | None:
    """`test_cfg`: windows, or None for whole images."""
    mode = test.pop("mode", "whole")
    windows = {"window": test.pop("crop_size", None), "stride": test.pop("stride", None)}
    test.ignore("rescale")
    test.finish()
    if mode == "whole":
        return None
    if mode != "slide":
        raise ConfigError(f"{test.where}.mode is {mode!r}; mmsegmentation has 'whole' and 'slide'.")
    if None in windows.values():
        raise ConfigError(f"{test.where} lacks crop_size or stride, which mode 'slide' needs.")
    return {"type": "SlidingWindow", **{key: tuple(sides) for key, sides in windows.items()}}


UPERNET = " ".join(
    f"decode_head.|{word}.->UPerNet"
    for word in ("psp_modules", "bottleneck", "lateral_convs", "fpn_convs", "fpn_bottleneck")
)
PREFIXES = prefixes(
    f"backbone.->backbone. neck.->neck. neck.->neck.0. {UPERNET} decode_head.reassemble_blocks.->DPTReassemble "
    "decode_head.|convs.->DPTFusion decode_head.|fusion_blocks.->DPTFusion decode_head.->head. "
    "auxiliary_head.{}.->auxiliary.{}. auxiliary_head.->auxiliary.0."
)
MODELS = {"EncoderDecoder": encoder_decoder}
SOURCE = Source(PREFIXES, MODELS)
