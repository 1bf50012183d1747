"""ViT: timm, the papers' repositories, detectron2, mmsegmentation and transformers.

Ours are the names of DeiT, MAE and DINOv2, less the classifier. A gated MLP's gate and value are one layer, `mlp.fc1`.
Configurations stand in vit_configs.py and vit_timm.py.
"""

from typing import Any

import torch
from torch import Tensor

from densevit.converters.architectures import vit_configs, vit_timm
from densevit.converters.architectures.segmenter import BLOCK
from densevit.converters.config_spec import Architecture, Tolerated
from densevit.converters.key_mapping import KeyRule, joined, pack, rules, unpack, within


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


def gated(gate: str, value: str, last: str) -> list[KeyRule]:
    """A gated MLP of three layers."""
    return joined(f"{gate}|{value}", "mlp.fc1", unpack_gate) + rules(f"{last}.->mlp.fc2.")


def no_key_bias(query: str, value: str) -> list[KeyRule]:
    """Biases of query and value alone."""
    return rules(f"{query}|{value}->attn.qkv.bias", change=(pack_without_key, unpack_without_key))


LAYER_SCALE = "gamma_1->ls1.gamma gamma_2->ls2.gamma "
"""CaiT's names, which DeiT III and BEiT have."""
OFFICIAL_BLOCK = [
    *rules(LAYER_SCALE + "!attn.relative_position_index !attn.qkv.bias_mask !attn.rope."),
    *no_key_bias("attn.q_bias", "attn.v_bias"),
    # EVA-02's
    *rules("attn.q_proj.weight|attn.k_proj.weight|attn.v_proj.weight->attn.qkv.weight", change=(pack, unpack)),
    *no_key_bias("attn.q_proj.bias", "attn.v_proj.bias"),
    *rules("attn.inner_attn_ln.->attn.norm. mlp.ffn_ln.->mlp.norm."),
    *gated("mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),  # timm's
    *gated("mlp.w1", "mlp.w2", "mlp.w3"),  # DINOv3's
    *rules("mlp.w12.->mlp.fc1. mlp.w3.->mlp.fc2."),  # DINOv2's
    *rules("*"),
]  # fmt: skip


def in_blocks(block: list[KeyRule], source: str = "blocks.{}.") -> list[KeyRule]:
    """Rules within a block as rules of the whole; source: what stands before a block's names."""
    return within(block, source, "blocks.{}.")


TOKENS = "cls_token dist_token register_tokens pos_embed "
OFFICIAL = [
    # classifiers, MAE's decoder, what only pre-training uses, and EVA-02's angles, which are computed
    *rules("!head. !head_dist. !fc_norm. !pre_logits. !mask_token !decoder_* !local_cls_norm. !attn_pool. !lm_head."),
    *rules("!rope. " + TOKENS + "reg_token->register_tokens storage_tokens->register_tokens patch_embed.proj. norm."),
    *rules("cls_norm. rope_embed."), *in_blocks(OFFICIAL_BLOCK),
]  # fmt: skip
CHUNKED = [rule for chunk in range(12) for rule in in_blocks(OFFICIAL_BLOCK, f"blocks.{chunk}.{{}}.")] + OFFICIAL
"""DINOv2 in training has its blocks in chunks; a block's number counts through all the same."""
MMSEG_BLOCK = rules(
    f"!attn.relative_position_index {BLOCK} {LAYER_SCALE} attn.qkv. attn.proj. attn.relative_position_bias_table"
)
MMSEG = rules(TOKENS + "patch_embed.projection.->patch_embed.proj. ln1.->norm.") + in_blocks(MMSEG_BLOCK, "layers.{}.")
# files have the older names (attention.attention.query), models of transformers 5 the newer ones (attention.q_proj)
TRANSFORMERS_BLOCK = [
    *rules("norm1. layernorm_before.->norm1. norm2. layernorm_after.->norm2. layer_scale{}.lambda1->ls{}.gamma"),
    *joined("attention.attention.query|attention.attention.key|attention.attention.value", "attn.qkv"),
    *joined("attention.q_proj|attention.k_proj|attention.v_proj", "attn.qkv"),
    *no_key_bias("attention.q_proj.bias", "attention.v_proj.bias"),
    *rules("attention.output.dense.->attn.proj. attention.o_proj.->attn.proj. intermediate.dense.->mlp.fc1."),
    *rules("output.dense.->mlp.fc2."), *gated("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    *rules("mlp.weights_in.->mlp.fc1. mlp.weights_out.->mlp.fc2. mlp.up_proj.->mlp.fc1. mlp.down_proj.->mlp.fc2."),
    *rules("mlp.fc1. mlp.fc2."),
]  # fmt: skip
TRANSFORMERS_WHOLE = rules(
    "!pooler. !embeddings.mask_token embeddings.cls_token->cls_token embeddings.distillation_token->dist_token "
    "embeddings.register_tokens->register_tokens embeddings.position_embeddings->pos_embed layernorm.->norm. norm. "
    "embeddings.patch_embeddings.projection.->patch_embed.proj. embeddings.patch_embeddings.->patch_embed.proj."
)
for start in ("encoder.layer.{}.", "layers.{}.", "layer.{}.", "model.layer.{}."):
    TRANSFORMERS_WHOLE += in_blocks(TRANSFORMERS_BLOCK, start)
TRANSFORMERS = rules("!classifier. !cls_classifier. !distillation_classifier. !decoder.")
for start in ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.", "dinov3_vit."):
    TRANSFORMERS += within(TRANSFORMERS_WHOLE, start)


def infer_from_keys(part: dict[str, Any], source: str, names: set[str]) -> None:
    """The class that takes a distillation token is not named among its arguments, and mmsegmentation changed the
    default of `patch_bias` between its versions."""
    if source == "timm" and "dist_token" in names and not part.get("distillation_token"):
        part["distillation_token"] = True
        part.pop("table_rows", None)
    if source == "mmseg" and "patch_embed.projection.weight" in names:
        part["patch_bias"] = "patch_embed.projection.bias" in names


ARCHITECTURES = (
    Architecture(
        "ViT",
        {
            "timm": OFFICIAL, "dinov2": CHUNKED, "dinov3": CHUNKED, "mmseg": MMSEG, "transformers": TRANSFORMERS,
            **dict.fromkeys(("segmenter", "dpt", "depth_anything", "detectron2"), OFFICIAL),
        },
        {**vit_configs.CONFIGS, "timm": vit_timm.CONFIGS},
        Tolerated(
            # what ViTDet and ViT-Adapter add to a pretrained network, which changes nothing at its start
            new=(r"blocks\.\d+\.attn\.rel_pos_[hw]", r"blocks\.\d+\.residual\..*", r"blocks\.\d+\.ls[12]\.gamma"),
            new_without_classifier=(r"norm\.(weight|bias)",),  # where it norms the mean of its patches (fc_norm)
            derived=(r"rope_embed\.periods",),
            unused=(r"cls_token|(cls_)?norm\..*",),
        ),
        infer_from_keys,
    ),
)  # fmt: skip
