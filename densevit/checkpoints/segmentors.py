"""Whole segmentation models: the configurations of mmsegmentation, of transformers' UperNet and of Segmenter's
repository.

The parts' names and configurations stand in the tables of their architectures; here they are only put together.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from densevit.checkpoints import dpt_configs, segmenter, semantic_fpn, setr, upernet, vit_configs
from densevit.checkpoints.architectures import maps_of, translate_part
from densevit.checkpoints.mmseg_terms import inference, inputs_of, preprocessor
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError
from densevit.registry import MODELS

Head = tuple[list[dict[str, Any]] | dict[str, Any] | None, dict[str, Any]]
"""A neck of ours that a head of theirs contains, or several, and our head."""

HEADS: dict[str, Callable[[Settings], Head]] = {
    "UPerHead": upernet.fused,
    "FCNHead": upernet.fcn,
    "FPNHead": semantic_fpn.from_mmseg,
    "SETRUPHead": setr.one_map,
    "SETRMLAHead": setr.several_maps,
    "SegmenterMaskTransformerHead": segmenter.from_mmseg,
    "DPTHead": dpt_configs.from_mmseg,
}
"""mmsegmentation's type -> what makes ours of its settings."""

SEGMENTORS = ("EncoderDecoder",)
"""mmsegmentation's types of whole models."""


class Maps(NamedTuple):
    """Channels and strides of maps, fine to coarse."""

    channels: tuple[int, ...]
    strides: tuple[float, ...]


def encoder_decoder(source: str, model: Settings) -> dict[str, Any]:
    """mmsegmentation's EncoderDecoder around a backbone of `source`'s or its own."""
    backbone = translate_part(source, model.part("backbone"))
    if not dpt_configs.needs_token(model.left.get("decode_head", {})):
        backbone.pop("append_cls_token", None)
    rest = behind_backbone(source, model, *maps_of(backbone))
    prepared = preprocessor(model.part("data_preprocessor", {}) if _given(model, "data_preprocessor") else _none(model))
    windows = inference(model.part("test_cfg")) if _given(model, "test_cfg") else None
    model.ignore("train_cfg", "test_cfg", "data_preprocessor", "pretrained", "init_cfg")
    model.done()
    whole = {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, **rest}
    return whole if windows is None else {**whole, "inference": windows}


def behind_backbone(
    source: str, model: Settings, channels: tuple[int, ...], strides: tuple[int, ...]
) -> dict[str, Any]:
    """What mmsegmentation puts behind a backbone that gives maps of these channels and strides: our `neck`, `head` and
    `auxiliary`."""
    maps, necks = Maps(channels, strides), []
    if _given(model, "neck"):
        part = model.part("neck")
        neck = translate_part(source, part)
        if (stated := tuple(neck.pop("in_channels"))) != maps.channels:
            raise ConfigError(f"{part.where}.in_channels are {stated}, but the backbone gives {maps.channels}.")
        necks.append(neck)
        maps = _behind(neck, maps)
    model.ignore("neck")
    fusing, head = _head(model.part("decode_head"), maps)
    heads = model.take("auxiliary_head", None) or []
    several, auxiliary = isinstance(heads, (list, tuple)), []
    for i, config in enumerate(heads if several else [heads]):
        part = Settings(config, f"{model.where}.auxiliary_head" + (f"[{i}]" if several else ""))
        inner, extra = _head(part, maps)
        if inner is not None:
            raise NotBuilt(f"{part.where}.type is {part.type!r}; densevit has heads without a neck of their own there.")
        extra.setdefault("in_index", tuple(range(len(maps.channels))))
        auxiliary.append({**extra, "after": len(necks)})
    necks += fusing if isinstance(fusing, list) else [fusing] if fusing is not None else []
    config: dict[str, Any] = {"neck": necks[0] if len(necks) == 1 else necks} if necks else {}
    config["head"] = head
    return {**config, "auxiliary": auxiliary} if auxiliary else config


def _head(settings: Settings, maps: Maps) -> Head:
    """One head on some of the maps."""
    if settings.type not in HEADS:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r} of mmseg, which densevit has no counterpart of.")
    index, stated = inputs_of(settings)
    count = len(maps.channels)
    if not all(-count <= i < count for i in index):
        raise ConfigError(f"{settings.where}.in_index is {index}, but there are {count} maps.")
    index = tuple(i % count for i in index)
    given = [maps.channels[i] for i in index]
    if dpt_configs.needs_token({"type": settings.type, **settings.left}):  # their number says nothing of the token
        stated = [2 * channels for channels in stated]
    if given != stated:
        raise ConfigError(f"{settings.where}.in_channels are {stated}, but the maps that it looks at have {given}.")
    neck, head = HEADS[settings.type](settings)
    settings.done()
    strides = [maps.strides[i] for i in index]
    for_strides = head.pop("in_strides", strides)
    if [s / for_strides[0] for s in for_strides] != [s / strides[0] for s in strides]:
        raise ConfigError(f"{settings.where} is for maps of strides {for_strides}, but they have {strides}.")
    if index != tuple(range(count)):
        if neck is not None:
            raise NotBuilt(f"{settings.where}.in_index is {index}; densevit's necks behind it take all {count} maps.")
        head["in_index"] = index
    return neck, head


def _behind(neck: Mapping[str, Any], maps: Maps) -> Maps:
    """The maps that a neck of ours makes of these."""
    with torch.device("meta"):
        built = MODELS.build(dict(neck), default_args={"in_channels": maps.channels, "in_strides": maps.strides})
    return Maps(tuple(built.out_channels), tuple(built.out_strides))


def _given(model: Settings, key: str) -> bool:
    """Whether there is something under `key`."""
    return bool(model.left.get(key))


def _none(model: Settings) -> Settings:
    """No preprocessor: nothing is normalised."""
    return Settings({}, f"{model.where}.data_preprocessor")


# ---- transformers ------------------------------------------------------------------------------------


def upernet_of_transformers(model: Settings) -> dict[str, Any]:
    """UperNetForSemanticSegmentation's config.json."""
    inner = dict(model.take("backbone_config") or {})
    kind = str(inner.get("model_type", ""))
    for key in WRITTEN_OUT:
        inner.pop(key, None)
    inner["architectures"] = [f"{kind}Backbone"]
    part = Settings(inner, f"{model.where}.backbone_config")
    part.type = kind
    backbone = translate_part("transformers", part)
    for key in ("backbone", "backbone_kwargs"):
        model.expect(key, None)
    model.expect("use_timm_backbone", False)
    model.expect("use_pretrained_backbone", False)
    classes = len(model.take("id2label", {0: "", 1: ""}))
    losses = {"type": "CrossEntropyLoss", "ignore_index": model.take("loss_ignore_index", 255)}
    common = {"type": "FCNHead", "num_classes": classes}
    channels, _ = maps_of(backbone)
    auxiliary = {
        **common,
        "in_index": (2,),
        "after": 0,
        "num_convs": model.take("auxiliary_num_convs", 1),
        "channels": model.take("auxiliary_channels", 256),
        "concat_input": model.take("auxiliary_concat_input", False),
        "dropout": 0.0,
        "losses": [{**losses, "loss_weight": model.take("auxiliary_loss_weight", 0.4)}],
    }
    model.expect("auxiliary_in_channels", None, [channels[min(2, len(channels) - 1)]])
    config = {
        "type": "DensePredictor",
        "data_preprocessor": image_processor(model.take("image_processor", {})),
        "backbone": backbone,
        "neck": {
            "type": "UPerNet",
            "channels": model.take("hidden_size", 512),
            "pool_scales": tuple(model.take("pool_scales", (1, 2, 3, 6))),
        },
        "head": {**common, "num_convs": 0, "dropout": 0.0, "losses": [losses]},
    }
    if model.take("use_auxiliary_head", True):
        config["auxiliary"] = [auxiliary]
    model.ignore("architectures", "label2id", *WRITTEN_OUT)
    model.done()
    return config


def image_processor(given: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of preprocessor_config.json, which counts pixels from 0 to 1."""
    config = {"type": "Preprocessor", "size_divisor": 1}
    for key in ("mean", "std"):
        if f"image_{key}" in given:
            config[key] = tuple(round(255 * number, 4) for number in given[f"image_{key}"])
    return config


WRITTEN_OUT = (
    "transformers_version", "torch_dtype", "dtype", "initializer_range", "num_labels", "problem_type", "_name_or_path",
    "model_type", "output_hidden_states", "output_attentions", "return_dict", "use_cache", "chunk_size_feed_forward",
    "is_encoder_decoder", "add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_eos_token_id", "is_decoder", "length_penalty", "max_length", "min_length",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores", "pad_token_id",
    "prefix", "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torchscript", "typical_p", "use_bfloat16",
)  # fmt: skip
"""What a config.json says beside the network, also the older ones that wrote out all that text generation knows."""


# ---- Segmenter's repository --------------------------------------------------------------------------

NORMALIZATION = {
    "vit": {"mean": (127.5, 127.5, 127.5), "std": (127.5, 127.5, 127.5)},
    "deit": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
}


def segmenter_of_rstrudel(model: Settings) -> dict[str, Any]:
    """variant.yml, or its `net_kwargs` alone. Windows are where the file says how far apart: `inference_kwargs`."""
    net = model.part("net_kwargs") if "net_kwargs" in model.left else model
    sliding = model.part("inference_kwargs") if _given(model, "inference_kwargs") else None
    decoder, classes, name = net.part("decoder"), net.take("n_cls"), net.take("normalization", "vit")
    if name not in NORMALIZATION:
        raise ConfigError(f"{net.where}.normalization is {name!r}; densevit has {', '.join(NORMALIZATION)} there.")
    head = segmenter.from_rstrudel(decoder, net.left.get("d_model", 0), classes)
    patch = net.left.get("patch_size", 16)
    backbone = vit_configs.from_rstrudel(net)
    net.done()
    prepared = {"type": "Preprocessor", **NORMALIZATION[name], "size_divisor": patch}
    config = {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, "head": head}
    if sliding is not None:
        window, stride = sliding.take("window_size"), sliding.take("window_stride")
        sliding.ignore("im_size")
        sliding.done()
        config["inference"] = {"type": "SlidingWindow", "window": window, "stride": stride}
        prepared["size_divisor"] = 1  # each window is complete
    return config
