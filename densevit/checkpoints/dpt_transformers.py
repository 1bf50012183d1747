"""DPT and Depth-Anything: the configurations of transformers, which its folders keep beside the weights."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.architectures import translate_part
from densevit.checkpoints.dpt_configs import necks_of, test_resize, whole_model
from densevit.checkpoints.segmentors import WRITTEN_OUT, image_processor
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.checkpoints.swin_configs import side_pair
from densevit.checkpoints.vit_configs import arch_of, no_dropout

HIERARCHICAL = ("swin", "swinv2")
"""Backbones that need no reassembling."""


def dpt(model: Settings) -> dict[str, Any]:
    """DPTForDepthEstimation's and DPTForSemanticSegmentation's config.json."""
    name = str((model.take("architectures", None) or ["DPTForDepthEstimation"])[0])
    if name not in ("DPTForDepthEstimation", "DPTForSemanticSegmentation"):
        raise NotBuilt(f"{model.where}.architectures is {name!r}; densevit has DPT with a head of depth or classes.")
    inner = model.take("backbone_config", None)
    if model.take("is_hybrid", False) or (inner is not None and inner.get("model_type", "bit") == "bit"):
        raise NotBuilt(
            f"{model.where}.is_hybrid: DPT-Hybrid's patches come from a BiT ResNet; densevit has DPT on transformers."
        )
    readout = model.take("readout_type", "project")
    if inner is not None:
        backbone, pyramid = _inner_backbone(model, inner), inner.get("model_type") in HIERARCHICAL
        model.ignore(*OWN_BACKBONE)
    else:
        backbone, pyramid = _own_backbone(model), False
    if not pyramid:
        backbone["append_cls_token"] = readout != "ignore"
    necks = necks_of(
        model.take("neck_hidden_sizes", (96, 192, 384, 768)),
        readout,
        model.take("fusion_hidden_size", 256),
        norm="BN" if model.take("use_batch_norm_in_fusion_residual", False) else None,
        conv_bias=model.take("use_bias_in_fusion_residual", None),
        fit="skip",
    )
    necks[0]["scales"] = tuple(model.take("reassemble_factors", (4, 2, 1, 0.5)))
    model.expect("head_in_index", -1, [3])
    if name == "DPTForDepthEstimation":
        head: dict[str, Any] = {"type": "DPTDepthHead", "projection": model.take("add_projection", False)}
        head["doubled"] = backbone.get("patch_size", 16) / necks[0]["scales"][0] != 4
        model.ignore("semantic_classifier_dropout", "semantic_loss_ignore_index")
    else:
        losses = {"type": "CrossEntropyLoss", "ignore_index": model.take("semantic_loss_ignore_index", 255)}
        head = {"type": "DPTHead", "doubled": True, "num_classes": len(model.take("id2label", {0: "", 1: ""}))}
        head |= {"dropout": model.take("semantic_classifier_dropout", 0.1), "losses": [losses]}
        model.ignore("add_projection")
    model.ignore("use_auxiliary_head", "auxiliary_loss_weight", *HYBRID)  # in training alone
    return _finished(model, backbone, necks[1:] if pyramid else necks, head)


def depth_anything(model: Settings) -> dict[str, Any]:
    """DepthAnythingForDepthEstimation's config.json."""
    backbone = _inner_backbone(model, model.take("backbone_config"))
    model.expect("reassemble_hidden_size", backbone["arch"]["embed_dim"])
    model.expect("patch_size", backbone["patch_size"])
    widths, factors = model.take("neck_hidden_sizes", (48, 96, 192, 384)), (4, 2, 1, 0.5)
    necks = necks_of(widths, "ignore", model.take("fusion_hidden_size", 64))
    necks[0]["scales"] = tuple(model.take("reassemble_factors", factors))
    model.expect("head_in_index", -1, [3])
    head: dict[str, Any] = {"type": "DPTDepthHead", "channels": model.take("head_hidden_size", 32)}
    if model.take("depth_estimation_type", "relative") == "metric":
        head |= {"kind": "sigmoid", "max_depth": float(model.take("max_depth", None) or 1)}
    else:
        model.expect("max_depth", None, [1])
    model.ignore("architectures")
    return _finished(model, backbone, necks, head)


def _finished(model: Settings, backbone: dict, necks: list[dict], head: dict) -> dict[str, Any]:
    """The whole model, once every key is accounted for."""
    model.ignore("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone")
    prepared = image_processor(model.take("image_processor", {}))
    model.ignore("id2label", "label2id", *WRITTEN_OUT)
    model.done()
    prepared["size_divisor"] = backbone.get("patch_size", 32)
    return whole_model(backbone, necks, head, **prepared)


OWN_BACKBONE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "qkv_bias",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps", "image_size", "patch_size",
    "num_channels", "backbone_out_indices",
)  # fmt: skip
"""What says nothing where a `backbone_config` is given."""
HYBRID = ("backbone_featmap_shape", "neck_ignore_stages", "pooler_output_size", "pooler_act")
"""What says nothing of a DPT that is no hybrid."""


def _own_backbone(model: Settings) -> dict[str, Any]:
    """DPT's own ViT, whose maps are not normed."""
    width = model.left.get("hidden_size", 768)
    model.expect("num_channels", 3)
    model.expect("hidden_act", "gelu")
    no_dropout(model, "hidden_dropout_prob", "attention_probs_dropout_prob")
    hidden = model.take("intermediate_size", 4 * width)
    return {
        "type": "ViT",
        "arch": arch_of(model, "hidden_size", "num_hidden_layers", "num_attention_heads", hidden=hidden),
        "patch_size": model.take("patch_size", 16),
        "img_size": side_pair(model.take("image_size", 384)),
        "out_indices": tuple(sorted(model.take("backbone_out_indices", (2, 5, 8, 11)))),
        "final_norm": None,
        "norm_eps": model.take("layer_norm_eps", 1e-12),
        "qkv_bias": model.take("qkv_bias", True),
        "table_mode": "bilinear",
    }


def _inner_backbone(model: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Another family's backbone, under `backbone_config`."""
    inner = {key: value for key, value in given.items() if key not in (*WRITTEN_OUT, "reshape_hidden_states")}
    kind = str(given.get("model_type", "dinov2"))
    inner["architectures"] = [f"{kind}Backbone"]
    part = Settings(inner, f"{model.where}.backbone_config")
    part.type = kind
    return translate_part("transformers", part)


CONFIGS = {"dpt": dpt, "depth_anything": depth_anything}
"""transformers' model_type -> what makes ours of its configuration."""


def resize_of(model_type: str, processor: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of the transform `Resize` from preprocessor_config.json, sampled by cv2 instead of Pillow; None where
    it says nothing."""
    size = processor.get("size")
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if model_type not in CONFIGS or not isinstance(size, Mapping) or not {"height", "width"} <= size.keys():
        return None
    scale = (size["width"], size["height"])
    if not processor.get("keep_aspect_ratio", False):
        return {"scale": scale, "keep_ratio": False, "cubic": True}
    return {**test_resize(1, processor.get("ensure_multiple_of", 1), "closest"), "scale": scale}
