"""transformers: a folder with config.json beside the weights; UperNet, DPT and Depth-Anything put together of parts."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures.dpt import necks_of, test_resize
from densevit.converters.architectures.vit_configs import HF_DPT
from densevit.converters.config_spec import (
    REQUIRED,
    ConfigReader,
    ConfigSpec,
    Only,
    UnsupportedModelError,
    maps_of,
    same,
    translate_part,
    whole_model,
)
from densevit.converters.source import (
    SEGMENTATION_SIZE,
    EmbeddedConfig,
    Source,
    prefixes,
)  # fmt: skip
from densevit.converters.sources import mmseg
from densevit.errors import ConfigError

HIERARCHICAL = ("swin", "swinv2")
"""Backbones that need no reassembling."""
WRITTEN_OUT = (
    "transformers_version torch_dtype dtype initializer_range num_labels problem_type _name_or_path model_type "
    "output_hidden_states output_attentions return_dict use_cache chunk_size_feed_forward is_encoder_decoder "
    "add_cross_attention bad_words_ids begin_suppress_tokens bos_token_id cross_attention_hidden_size "
    "decoder_start_token_id diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size eos_token_id "
    "exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id is_decoder "
    "length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences "
    "output_scores pad_token_id prefix pruned_heads remove_invalid_values repetition_penalty "
    "return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss "
    "tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torchscript typical_p use_bfloat16"
)
"""What a config.json holds beside the network, also the older ones that wrote out all options of text generation."""
OWN_BACKBONE = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act qkv_bias hidden_dropout_prob "
    "attention_probs_dropout_prob layer_norm_eps image_size patch_size num_channels backbone_out_indices"
)
"""Of DPT's own ViT; without meaning where a `backbone_config` is given."""
HYBRID = "backbone_featmap_shape neck_ignore_stages pooler_output_size pooler_act"
"""What has no meaning for a DPT that is no hybrid."""
NO_TIMM = "backbone backbone_kwargs use_timm_backbone use_pretrained_backbone"
TWO = {0: "", 1: ""}
"""Classes where none are stated."""


def open_folder(files: CheckpointFiles) -> EmbeddedConfig | None:
    """config.json, with what preprocessor_config.json adds of the images."""
    path, config = files.read_json("config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        return None
    kind, dataset, size = config["model_type"], {}, None
    if kind == "upernet" or "DPTForSemanticSegmentation" in (config.get("architectures") or []):
        names = config.get("id2label") or {}
        dataset, size = {"classes": [names[key] for key in sorted(names, key=int)]}, SEGMENTATION_SIZE
    processor, given = files.read_json("preprocessor_config.json")
    if kind in MODELS and processor is not None:
        config["image_processor"] = given
        size = resize_of(kind, config["image_processor"]) or size
    return EmbeddedConfig("transformers", config, str(path), dataset, size)


def resize_of(kind: str, processor: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of the transform `Resize` from preprocessor_config.json, sampled by cv2 instead of Pillow; None where
    it has none."""
    size = processor.get("size")
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if kind == "upernet" or not isinstance(size, Mapping) or not {"height", "width"} <= size.keys():
        return None
    scale = (size["width"], size["height"])
    if not processor.get("keep_aspect_ratio", False):
        return {"scale": scale, "keep_ratio": False, "cubic": True}
    return {**test_resize(1, processor.get("ensure_multiple_of", 1), "closest"), "scale": scale}


def image_processor(given: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of preprocessor_config.json, where pixels range from 0 to 1."""
    found = {key: given[f"image_{key}"] for key in ("mean", "std") if f"image_{key}" in given}
    return {key: tuple(round(255 * number, 4) for number in numbers) for key, numbers in found.items()}


CLASSES = {"id2label": ("num_classes", TWO, len)}
PREPARED = {"image_processor": ("prepared", {}, image_processor)}
LABELS = f"architectures id2label label2id {WRITTEN_OUT}"
UPERNET = ConfigSpec(
    keys={
        **CLASSES, **PREPARED, "loss_ignore_index": ("ignore_index", 255),
        "use_auxiliary_head": ("with_auxiliary", True),
        "hidden_size": ("neck.channels", 512), "pool_scales": ("neck.pool_scales", (1, 2, 3, 6), tuple),
        "auxiliary_num_convs": ("auxiliary.num_convs", 1), "auxiliary_channels": ("auxiliary.channels", 256),
        "auxiliary_concat_input": ("auxiliary.concat_input", False), "auxiliary_loss_weight": ("loss_weight", 0.4),
    },
    fixed={**dict.fromkeys(NO_TIMM.split()[:2]), **dict.fromkeys(NO_TIMM.split()[2:], False)}, ignored=LABELS,
    constants={"neck": {"type": "UPerNet"}, "auxiliary": {"in_index": (2,), "neck_index": 0}},
)  # fmt: skip


def upernet(source: str, model: ConfigReader) -> dict[str, Any]:
    """UperNetForSemanticSegmentation."""
    backbone = _inner_backbone(model, model.pop("backbone_config") or {}, "")
    channels, _ = maps_of(backbone)
    model.require("auxiliary_in_channels", None, [channels[min(2, len(channels) - 1)]])
    config = UPERNET(model)
    losses = {"type": "CrossEntropyLoss", "ignore_index": config["ignore_index"]}
    common = {"type": "FCNHead", "num_classes": config["num_classes"], "dropout": 0.0}
    auxiliary = {**common, **config["auxiliary"], "losses": [{**losses, "loss_weight": config["loss_weight"]}]}
    rest = {"auxiliary": [auxiliary]} if config["with_auxiliary"] else {}
    head = {**common, "num_convs": 0, "losses": [losses]}
    return whole_model(backbone, config["neck"], head, {**config["prepared"], "size_divisor": 1}, **rest)


ANY_DPT = ConfigSpec(
    keys={
        **CLASSES, **PREPARED, "neck_hidden_sizes": ("widths", REQUIRED), "fusion_hidden_size": ("channels", REQUIRED),
        "reassemble_factors": ("scales", (4, 2, 1, 0.5), tuple),
    },
    fixed={"head_in_index": Only(-1, [3])}, ignored=f"{LABELS} {NO_TIMM}",
)  # fmt: skip
DPT = ANY_DPT.but(
    keys={
        "neck_hidden_sizes": ("widths", (96, 192, 384, 768)), "fusion_hidden_size": ("channels", 256),
        "use_batch_norm_in_fusion_residual": ("norm", False, {True: "BN", False: None}),
        "use_bias_in_fusion_residual": ("conv_bias", None), "add_projection": ("projection", False),
        "semantic_classifier_dropout": ("dropout", 0.1), "semantic_loss_ignore_index": ("ignore_index", 255),
    },
    ignored=f"use_auxiliary_head auxiliary_loss_weight {HYBRID}",  # in training alone
)  # fmt: skip
DEPTH_ANYTHING = ANY_DPT.but(
    keys={
        "neck_hidden_sizes": ("widths", (48, 96, 192, 384)), "fusion_hidden_size": ("channels", 64),
        "head_hidden_size": ("head.channels", 32), "depth_estimation_type": ("kind", "relative"),
        **same(max_depth=None),
    },
    constants={"head": {"type": "DPTDepthHead"}},
)  # fmt: skip


def dpt(source: str, model: ConfigReader) -> dict[str, Any]:
    """DPTForDepthEstimation and DPTForSemanticSegmentation."""
    name = str((model.pop("architectures", None) or ["DPTForDepthEstimation"])[0])
    if name not in ("DPTForDepthEstimation", "DPTForSemanticSegmentation"):
        raise UnsupportedModelError(
            f"{model.where}.architectures is {name!r}; densevit has DPT with a head of depth or classes."
        )
    inner = model.pop("backbone_config", None)
    if model.pop("is_hybrid", False) or (inner is not None and inner.get("model_type", "bit") == "bit"):
        raise UnsupportedModelError(
            f"{model.where}.is_hybrid: DPT-Hybrid's patches come from a BiT ResNet; densevit has DPT on transformers."
        )
    readout, pyramid = model.pop("readout_type", "project"), (inner or {}).get("model_type") in HIERARCHICAL
    own = {key: model.remaining.pop(key) for key in OWN_BACKBONE.split() if key in model.remaining}
    backbone = HF_DPT(ConfigReader(own, model.where)) if inner is None else _inner_backbone(model, inner)
    if not pyramid:
        backbone["append_cls_token"] = readout != "ignore"
    config = DPT(model)
    fusion = {key: config[key] for key in ("norm", "conv_bias")}
    necks = necks_of(config["widths"], readout, config["channels"], **fusion, fit="skip")
    necks[0]["scales"] = config["scales"]
    if name == "DPTForDepthEstimation":
        head: dict[str, Any] = {"type": "DPTDepthHead", "projection": config["projection"]}
        head["doubled"] = backbone.get("patch_size", 16) / config["scales"][0] != 4
    else:
        losses = {"type": "CrossEntropyLoss", "ignore_index": config["ignore_index"]}
        head = {"type": "DPTHead", "doubled": True, "num_classes": config["num_classes"], "losses": [losses]}
        head["dropout"] = config["dropout"]
    prepared = {**config["prepared"], "size_divisor": backbone.get("patch_size", 32)}
    return whole_model(backbone, necks[1:] if pyramid else necks, head, prepared)


def depth_anything(source: str, model: ConfigReader) -> dict[str, Any]:
    """DepthAnythingForDepthEstimation."""
    backbone = _inner_backbone(model, model.pop("backbone_config"))
    model.require("reassemble_hidden_size", backbone["arch"]["embed_dim"])
    model.require("patch_size", backbone["patch_size"])
    config = DEPTH_ANYTHING(model)
    necks, head, depth = necks_of(config["widths"], "ignore", config["channels"]), config["head"], config["max_depth"]
    necks[0]["scales"] = config["scales"]
    if config["kind"] == "metric":
        head |= {"kind": "sigmoid", "max_depth": float(depth or 1)}
    elif depth not in (None, 1):
        raise ConfigError(f"{model.where}.max_depth is {depth!r}; densevit has None there and nothing else.")
    return whole_model(backbone, necks, head, {**config["prepared"], "size_divisor": backbone.get("patch_size", 32)})


def _inner_backbone(model: ConfigReader, given: Mapping[str, Any], default: str = "dinov2") -> dict[str, Any]:
    """Another family's backbone, under `backbone_config`."""
    inner = {key: value for key, value in given.items() if key not in (*WRITTEN_OUT.split(), "reshape_hidden_states")}
    kind = str(given.get("model_type", default))
    part = ConfigReader({**inner, "architectures": [f"{kind}Backbone"]}, f"{model.where}.backbone_config")
    part.type = kind
    return translate_part("transformers", part)


MODELS = {"upernet": upernet, "dpt": dpt, "depth_anything": depth_anything}
"""model_type of whole models -> what makes ours of their configuration."""
SOURCE = Source(
    mmseg.PREFIXES  # its UperNet has mmsegmentation's names
    + prefixes(
        "dpt.->backbone. neck.reassemble_stage.->DPTReassemble neck.|convs.->DPTFusion neck.|fusion_stage.->DPTFusion "
        "head.->head. head.->DPTHead |auxiliary_head.->DPTHead"
    ),
    MODELS, open_folder, "model_type",
)  # fmt: skip
