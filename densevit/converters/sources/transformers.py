"""transformers: a folder with config.json beside the weights; UperNet, DPT and Depth-Anything put together of parts."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig, read_json
from densevit.converters.architectures import maps_of, translate_part
from densevit.converters.architectures.dpt import necks_of, test_resize, whole_model
from densevit.converters.architectures.vit_configs import DPT_OF_TRANSFORMERS
from densevit.converters.config_spec import ConfigReader, UnsupportedModelError
from densevit.converters.source import Prefix, Source
from densevit.converters.sources import mmseg
from densevit.converters.sources.mmdet import SEGMENTATION_SIZE

HIERARCHICAL = ("swin", "swinv2")
"""Backbones that need no reassembling."""
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
"""What a config.json holds beside the network, also the older ones that wrote out all options of text generation."""
OWN_BACKBONE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "qkv_bias",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps", "image_size", "patch_size",
    "num_channels", "backbone_out_indices",
)  # fmt: skip
"""Of DPT's own ViT; without meaning where a `backbone_config` is given."""
HYBRID = ("backbone_featmap_shape", "neck_ignore_stages", "pooler_output_size", "pooler_act")
"""What has no meaning for a DPT that is no hybrid."""
NO_TIMM = ("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone")


# ---- what a folder carries ---------------------------------------------------------------------------


def open_folder(files: CheckpointFiles) -> EmbeddedConfig | None:
    """config.json, with what preprocessor_config.json adds of the images."""
    path = files.beside("config.json") if files.path.is_dir() else None
    config = None if path is None else read_json(path)
    if not isinstance(config, dict) or "model_type" not in config:
        return None
    kind, dataset, size = config["model_type"], {}, None
    if kind == "upernet" or "DPTForSemanticSegmentation" in (config.get("architectures") or []):
        names = config.get("id2label") or {}
        dataset, size = {"classes": [names[key] for key in sorted(names, key=int)]}, SEGMENTATION_SIZE
    if kind in MODELS and (processor := files.beside("preprocessor_config.json")) is not None:
        config["image_processor"] = read_json(processor)
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
    config = {"type": "Preprocessor", "size_divisor": 1}
    for key in ("mean", "std"):
        if f"image_{key}" in given:
            config[key] = tuple(round(255 * number, 4) for number in given[f"image_{key}"])
    return config


# ---- whole models ------------------------------------------------------------------------------------


def upernet(source: str, model: ConfigReader) -> dict[str, Any]:
    """UperNetForSemanticSegmentation."""
    backbone = _inner_backbone(model, model.pop("backbone_config") or {}, "")
    for key in ("backbone", "backbone_kwargs"):
        model.require(key, None)
    for key in ("use_timm_backbone", "use_pretrained_backbone"):
        model.require(key, False)
    losses = {"type": "CrossEntropyLoss", "ignore_index": model.pop("loss_ignore_index", 255)}
    common = {"type": "FCNHead", "num_classes": len(model.pop("id2label", {0: "", 1: ""}))}
    channels, _ = maps_of(backbone)
    auxiliary = {
        **common,
        "in_index": (2,),
        "neck_index": 0,
        "num_convs": model.pop("auxiliary_num_convs", 1),
        "channels": model.pop("auxiliary_channels", 256),
        "concat_input": model.pop("auxiliary_concat_input", False),
        "dropout": 0.0,
        "losses": [{**losses, "loss_weight": model.pop("auxiliary_loss_weight", 0.4)}],
    }
    model.require("auxiliary_in_channels", None, [channels[min(2, len(channels) - 1)]])
    config = {
        "type": "DensePredictor",
        "data_preprocessor": image_processor(model.pop("image_processor", {})),
        "backbone": backbone,
        "neck": {
            "type": "UPerNet",
            "channels": model.pop("hidden_size", 512),
            "pool_scales": tuple(model.pop("pool_scales", (1, 2, 3, 6))),
        },
        "head": {**common, "num_convs": 0, "dropout": 0.0, "losses": [losses]},
    }
    if model.pop("use_auxiliary_head", True):
        config["auxiliary"] = [auxiliary]
    model.ignore("architectures", "label2id", *WRITTEN_OUT)
    model.finish()
    return config


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
    readout = model.pop("readout_type", "project")
    pyramid = inner is not None and inner.get("model_type") in HIERARCHICAL
    own = {key: model.remaining.pop(key) for key in OWN_BACKBONE if key in model.remaining}
    backbone = DPT_OF_TRANSFORMERS(ConfigReader(own, model.where)) if inner is None else _inner_backbone(model, inner)
    if not pyramid:
        backbone["append_cls_token"] = readout != "ignore"
    necks = necks_of(
        model.pop("neck_hidden_sizes", (96, 192, 384, 768)),
        readout,
        model.pop("fusion_hidden_size", 256),
        norm="BN" if model.pop("use_batch_norm_in_fusion_residual", False) else None,
        conv_bias=model.pop("use_bias_in_fusion_residual", None),
        fit="skip",
    )
    necks[0]["scales"] = tuple(model.pop("reassemble_factors", (4, 2, 1, 0.5)))
    if name == "DPTForDepthEstimation":
        head: dict[str, Any] = {"type": "DPTDepthHead", "projection": model.pop("add_projection", False)}
        head["doubled"] = backbone.get("patch_size", 16) / necks[0]["scales"][0] != 4
        model.ignore("semantic_classifier_dropout", "semantic_loss_ignore_index")
    else:
        losses = {"type": "CrossEntropyLoss", "ignore_index": model.pop("semantic_loss_ignore_index", 255)}
        head = {"type": "DPTHead", "doubled": True, "num_classes": len(model.pop("id2label", {0: "", 1: ""}))}
        head |= {"dropout": model.pop("semantic_classifier_dropout", 0.1), "losses": [losses]}
        model.ignore("add_projection")
    model.ignore("use_auxiliary_head", "auxiliary_loss_weight", *HYBRID)  # in training alone
    return _finished(model, backbone, necks[1:] if pyramid else necks, head)


def depth_anything(source: str, model: ConfigReader) -> dict[str, Any]:
    """DepthAnythingForDepthEstimation."""
    backbone = _inner_backbone(model, model.pop("backbone_config"))
    model.require("reassemble_hidden_size", backbone["arch"]["embed_dim"])
    model.require("patch_size", backbone["patch_size"])
    widths = model.pop("neck_hidden_sizes", (48, 96, 192, 384))
    necks = necks_of(widths, "ignore", model.pop("fusion_hidden_size", 64))
    necks[0]["scales"] = tuple(model.pop("reassemble_factors", (4, 2, 1, 0.5)))
    head: dict[str, Any] = {"type": "DPTDepthHead", "channels": model.pop("head_hidden_size", 32)}
    if model.pop("depth_estimation_type", "relative") == "metric":
        head |= {"kind": "sigmoid", "max_depth": float(model.pop("max_depth", None) or 1)}
    else:
        model.require("max_depth", None, [1])
    model.ignore("architectures")
    return _finished(model, backbone, necks, head)


def _finished(model: ConfigReader, backbone: dict, necks: list[dict], head: dict) -> dict[str, Any]:
    """The whole model, once every key is read."""
    model.require("head_in_index", -1, [3])
    prepared = image_processor(model.pop("image_processor", {}))
    model.ignore("id2label", "label2id", *NO_TIMM, *WRITTEN_OUT)
    model.finish()
    prepared["size_divisor"] = backbone.get("patch_size", 32)
    return whole_model(backbone, necks, head, **prepared)


def _inner_backbone(model: ConfigReader, given: Mapping[str, Any], default: str = "dinov2") -> dict[str, Any]:
    """Another family's backbone, under `backbone_config`."""
    inner = {key: value for key, value in given.items() if key not in (*WRITTEN_OUT, "reshape_hidden_states")}
    kind = str(given.get("model_type", default))
    part = ConfigReader({**inner, "architectures": [f"{kind}Backbone"]}, f"{model.where}.backbone_config")
    part.type = kind
    return translate_part("transformers", part)


MODELS = {"upernet": upernet, "dpt": dpt, "depth_anything": depth_anything}
"""model_type of whole models -> what makes ours of their configuration."""
SOURCE = Source(
    prefixes=(
        *mmseg.PREFIXES,  # its UperNet has mmsegmentation's names
        Prefix("dpt.", "backbone."), Prefix("neck.reassemble_stage.", "DPTReassemble"),
        *(Prefix(f"neck.{word}.", "DPTFusion", f"{word}.") for word in ("convs", "fusion_stage")),
        Prefix("head.", "head."), Prefix("head.", "DPTHead"), Prefix("auxiliary_head.", "DPTHead", "auxiliary_head."),
    ),
    models=MODELS, open=open_folder, type_key="model_type",
)  # fmt: skip
