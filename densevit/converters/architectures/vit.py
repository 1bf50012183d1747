"""ViT: timm, the papers' repositories, detectron2, mmsegmentation and transformers.

Ours are the names of DeiT, MAE and DINOv2, less the classifier. A gated MLP's gate and value are one layer, `mlp.fc1`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from densevit.converters.architecture import Architecture, Tolerated
from densevit.converters.architectures import vit_configs, vit_timm
from densevit.converters.architectures.swin import pack, unpack
from densevit.converters.key_mapping import KeyRule, ignored, renamed, same

# ---- names -------------------------------------------------------------------------------------------


def pack_without_key(query: Tensor, value: Tensor) -> Tensor:
    """Biases of query and value as one of all three, zeros for the key's."""
    return torch.cat((query, torch.zeros_like(query), value))


def unpack_without_key(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `pack_without_key`."""
    query, _, value = packed.chunk(3)
    return query, value


def unpack_gate(packed: Tensor) -> tuple[Tensor, Tensor]:
    """A gated MLP's first layer as its gate and its value."""
    return packed.chunk(2)


def joined(sources: tuple[str, ...], target: str, inverse: Callable = unpack) -> list[KeyRule]:
    """The weights and the biases of several layers as one layer's."""
    kinds = ("weight", "bias")
    return [KeyRule(tuple(f"{s}.{kind}" for s in sources), f"{target}.{kind}", pack, inverse) for kind in kinds]


def gated(gate: str, value: str, last: str) -> list[KeyRule]:
    """A gated MLP of three layers."""
    return [*joined((gate, value), "mlp.fc1", unpack_gate), KeyRule(f"{last}.*", "mlp.fc2.*")]


def no_key_bias(query: str, value: str) -> KeyRule:
    """Biases of query and value alone."""
    return KeyRule((query, value), "attn.qkv.bias", pack_without_key, unpack_without_key)


def in_blocks(rules: list[KeyRule], source: str = "blocks.{}.") -> list[KeyRule]:
    """Rules within a block as rules of the whole; source: what stands before a block's names."""
    return [rule.within(source, "blocks.{}.") for rule in rules]


LAYER_SCALE = [KeyRule("gamma_1", "ls1.gamma"), KeyRule("gamma_2", "ls2.gamma")]
"""CaiT's names, which DeiT III and BEiT have."""
OFFICIAL_BLOCK = [
    *ignored("attn.relative_position_index", "attn.qkv.bias_mask", "attn.rope.*"),
    *LAYER_SCALE,
    no_key_bias("attn.q_bias", "attn.v_bias"),
    KeyRule(tuple(f"attn.{name}_proj.weight" for name in "qkv"), "attn.qkv.weight", pack, unpack),  # EVA-02's
    no_key_bias("attn.q_proj.bias", "attn.v_proj.bias"),
    *renamed(**{"attn.inner_attn_ln": "attn.norm", "mlp.ffn_ln": "mlp.norm"}),
    *gated("mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),  # timm's
    *gated("mlp.w1", "mlp.w2", "mlp.w3"),  # DINOv3's
    *renamed(**{"mlp.w12": "mlp.fc1", "mlp.w3": "mlp.fc2"}),  # DINOv2's
    *same("*"),
]
TOKENS = same("cls_token", "dist_token", "register_tokens", "pos_embed")
OFFICIAL = [
    # classifiers, MAE's decoder, what only pre-training uses, and EVA-02's angles, which are computed
    *ignored("head.*", "head_dist.*", "fc_norm.*", "pre_logits.*", "mask_token", "decoder_*", "local_cls_norm.*"),
    *ignored("attn_pool.*", "lm_head.*", "rope.*"), *TOKENS, KeyRule("reg_token", "register_tokens"),
    KeyRule("storage_tokens", "register_tokens"), *same("patch_embed.proj.*", "norm.*", "cls_norm.*", "rope_embed.*"),
    *in_blocks(OFFICIAL_BLOCK),
]  # fmt: skip
CHUNKED = [rule for chunk in range(12) for rule in in_blocks(OFFICIAL_BLOCK, f"blocks.{chunk}.{{}}.")]
"""DINOv2 in training has its blocks in chunks; a block's number counts through all the same."""
MMSEG = [
    *TOKENS, *renamed(**{"patch_embed.projection": "patch_embed.proj", "ln1": "norm"}),
    *in_blocks(
        [
            *ignored("attn.relative_position_index"), *renamed(ln1="norm1", ln2="norm2"),
            KeyRule("attn.attn.in_proj_weight", "attn.qkv.weight"), KeyRule("attn.attn.in_proj_bias", "attn.qkv.bias"),
            *renamed(**{"attn.attn.out_proj": "attn.proj", "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2"}),
            *LAYER_SCALE, *same("attn.qkv.*", "attn.proj.*", "attn.relative_position_bias_table"),
        ],
        "layers.{}.",
    ),
]  # fmt: skip
# files have the older names (attention.attention.query), models of transformers 5 the newer ones (attention.q_proj)
TRANSFORMERS_BLOCK = [
    *renamed(norm1="norm1", layernorm_before="norm1", norm2="norm2", layernorm_after="norm2"),
    *joined(tuple(f"attention.attention.{name}" for name in ("query", "key", "value")), "attn.qkv"),
    *joined(tuple(f"attention.{name}_proj" for name in "qkv"), "attn.qkv"),
    no_key_bias("attention.q_proj.bias", "attention.v_proj.bias"),
    *renamed(**{"attention.output.dense": "attn.proj", "attention.o_proj": "attn.proj"}),
    KeyRule("layer_scale{}.lambda1", "ls{}.gamma"),
    *renamed(**{"intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}),
    *gated("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    *renamed(**{"mlp.weights_in": "mlp.fc1", "mlp.weights_out": "mlp.fc2"}),
    *renamed(**{"mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}),
    *same("mlp.fc1.*", "mlp.fc2.*"),
]
TRANSFORMERS_WHOLE = [
    *ignored("pooler.*", "embeddings.mask_token"),
    KeyRule("embeddings.cls_token", "cls_token"),
    KeyRule("embeddings.distillation_token", "dist_token"),
    KeyRule("embeddings.register_tokens", "register_tokens"),
    KeyRule("embeddings.position_embeddings", "pos_embed"),
    *(KeyRule(f"embeddings.patch_embeddings.{name}*", "patch_embed.proj.*") for name in ("projection.", "")),
    *renamed(layernorm="norm", norm="norm"),
    *(
        rule
        for start in ("encoder.layer.{}.", "layers.{}.", "layer.{}.", "model.layer.{}.")
        for rule in in_blocks(TRANSFORMERS_BLOCK, start)
    ),
]
TRANSFORMERS = [
    *ignored("classifier.*", "cls_classifier.*", "distillation_classifier.*", "decoder.*"),
    *(
        rule.within(start)
        for start in ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.", "dinov3_vit.")
        for rule in TRANSFORMERS_WHOLE
    ),
]
KEYS = {
    "timm": OFFICIAL, "dinov2": [*CHUNKED, *OFFICIAL], "dinov3": [*CHUNKED, *OFFICIAL],
    **dict.fromkeys(("segmenter", "dpt", "depth_anything", "detectron2"), OFFICIAL), "mmseg": MMSEG,
    "transformers": TRANSFORMERS,
}  # fmt: skip
TOLERATED = Tolerated(
    # what ViTDet and ViT-Adapter add to a pretrained network, which changes nothing at its start
    new=(r"blocks\.\d+\.attn\.rel_pos_[hw]", r"blocks\.\d+\.residual\..*", r"blocks\.\d+\.ls[12]\.gamma"),
    new_without_classifier=(r"norm\.(weight|bias)",),  # where it norms the mean of its patches (fc_norm)
    derived=(r"rope_embed\.periods",),
    unused=(r"cls_token|(cls_)?norm\..*",),
)


def infer_from_keys(part: dict[str, Any], source: str, names: set[str]) -> None:
    """The class that takes a distillation token is not named among its arguments, and mmsegmentation changed the
    default of `patch_bias` between its versions."""
    if source == "timm" and "dist_token" in names and not part.get("distillation_token"):
        part["distillation_token"] = True
        part.pop("table_rows", None)
    if source == "mmseg" and "patch_embed.projection.weight" in names:
        part["patch_bias"] = "patch_embed.projection.bias" in names


NAMES = (None, "DinoVisionTransformer", *vit_configs.SIZES)
ARCHITECTURE = Architecture(
    "ViT", keys=KEYS,
    configs={
        "mmseg": {"VisionTransformer": vit_configs.VIT_OF_MMSEG, "MAE": vit_configs.MAE_OF_MMSEG},
        "dinov2": dict.fromkeys(NAMES, vit_configs.DINOV2), "dinov3": dict.fromkeys(NAMES, vit_configs.DINOV3),
        "detectron2": {"ViT": vit_configs.DETECTRON2},
        "transformers": {
            name: spec
            for kind, spec in vit_configs.TRANSFORMERS.items()
            for name in (kind, *vit_configs.classes_of(kind))
        },
        "timm": {
            **dict.fromkeys(vit_timm.CLASSES, vit_timm.ARGUMENTS),
            **dict.fromkeys(("vit_*", "deit*", "eva*"), vit_timm.from_name),
        },
    },
    tolerated=TOLERATED, infer_from_keys=infer_from_keys,
)  # fmt: skip
