"""ViT: the names of timm, the papers' repositories, mmsegmentation and transformers.

Ours are those of DeiT, MAE and DINOv2, less the classifier. A gated MLP's gate and value are one layer, `mlp.fc1`.
"""

import torch
from torch import Tensor

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.swin import pack, unpack, within

ONLY_IN_TRAINING = [
    Rule(name, None)
    for name in (
        "head.*", "head_dist.*", "fc_norm.*", "pre_logits.*", "mask_token", "decoder_*", "local_cls_norm.*",
        "attn_pool.*", "lm_head.*", "rope.*",
    )
]  # fmt: skip
"""Classifiers, MAE's decoder, what only pre-training uses, and EVA-02's angles, which are computed."""


def pack_without_key(query: Tensor, value: Tensor) -> Tensor:
    """Biases of query and value as one of all three, zeros for the key's."""
    return torch.cat((query, torch.zeros_like(query), value))


def unpack_without_key(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The way back of `pack_without_key`."""
    query, _, value = packed.chunk(3)
    return query, value


def unpack_gate(packed: Tensor) -> tuple[Tensor, Tensor]:
    """A gated MLP's first layer as its gate and its value."""
    return packed.chunk(2)


def joined(theirs: tuple[str, ...], ours: str, value=pack, back=unpack) -> list[Rule]:
    """The weights and the biases of several layers as one layer's."""
    return [
        Rule(tuple(f"{name}.{kind}" for name in theirs), f"{ours}.{kind}", value, back) for kind in ("weight", "bias")
    ]


def gated(gate: str, value: str, last: str) -> list[Rule]:
    """A gated MLP of three layers."""
    return [*joined((gate, value), "mlp.fc1", pack, unpack_gate), Rule(f"{last}.*", "mlp.fc2.*")]


def in_blocks(rules: list[Rule], theirs: str = "blocks.{}.") -> list[Rule]:
    """Rules within a block as rules of the whole; theirs: what stands before a block's names."""
    return [Rule(within(theirs, r.theirs), within("blocks.{}.", r.ours), r.value, r.back) for r in rules]


OFFICIAL_BLOCK = [
    Rule("attn.relative_position_index", None),
    Rule("attn.qkv.bias_mask", None),
    Rule("gamma_1", "ls1.gamma"),  # CaiT's names, which DeiT III and BEiT keep
    Rule("gamma_2", "ls2.gamma"),
    Rule(("attn.q_bias", "attn.v_bias"), "attn.qkv.bias", pack_without_key, unpack_without_key),
    Rule(tuple(f"attn.{name}_proj.weight" for name in "qkv"), "attn.qkv.weight", pack, unpack),  # EVA-02's
    Rule(("attn.q_proj.bias", "attn.v_proj.bias"), "attn.qkv.bias", pack_without_key, unpack_without_key),
    Rule("attn.inner_attn_ln.*", "attn.norm.*"),
    Rule("mlp.ffn_ln.*", "mlp.norm.*"),
    Rule("attn.rope.*", None),
    *gated("mlp.fc1_g", "mlp.fc1_x", "mlp.fc2"),  # timm's
    *gated("mlp.w1", "mlp.w2", "mlp.w3"),  # DINOv3's
    Rule("mlp.w12.*", "mlp.fc1.*"),  # DINOv2's
    Rule("mlp.w3.*", "mlp.fc2.*"),
    Rule("*", "*"),
]
TOKENS = [Rule(name, name) for name in ("cls_token", "dist_token", "register_tokens", "pos_embed")]
OFFICIAL = [
    *ONLY_IN_TRAINING,
    *TOKENS,
    Rule("reg_token", "register_tokens"),
    Rule("storage_tokens", "register_tokens"),
    *(Rule(f"{name}.*", f"{name}.*") for name in ("patch_embed.proj", "norm", "cls_norm", "rope_embed")),
    *in_blocks(OFFICIAL_BLOCK),
]
CHUNKED = [rule for chunk in range(12) for rule in in_blocks(OFFICIAL_BLOCK, f"blocks.{chunk}.{{}}.")]
"""DINOv2 in training keeps its blocks in chunks; a block's number counts through all the same."""

MMSEG_BLOCK = [
    Rule("attn.relative_position_index", None),
    Rule("ln1.*", "norm1.*"),
    Rule("ln2.*", "norm2.*"),
    Rule("attn.attn.in_proj_weight", "attn.qkv.weight"),
    Rule("attn.attn.in_proj_bias", "attn.qkv.bias"),
    Rule("attn.attn.out_proj.*", "attn.proj.*"),
    Rule("ffn.layers.0.0.*", "mlp.fc1.*"),
    Rule("ffn.layers.1.*", "mlp.fc2.*"),
    Rule("gamma_1", "ls1.gamma"),
    Rule("gamma_2", "ls2.gamma"),
    *(Rule(f"attn.{name}", f"attn.{name}") for name in ("qkv.*", "proj.*", "relative_position_bias_table")),
]
MMSEG = [
    *TOKENS,
    Rule("patch_embed.projection.*", "patch_embed.proj.*"),
    Rule("ln1.*", "norm.*"),
    *in_blocks(MMSEG_BLOCK, "layers.{}."),
]

# files have the older names (attention.attention.query), models of transformers 5 the newer ones (attention.q_proj)
TRANSFORMERS_BLOCK = [
    *(
        Rule(f"{theirs}.*", f"norm{i}.*")
        for i in (1, 2)
        for theirs in (f"norm{i}", ("layernorm_before", "layernorm_after")[i - 1])
    ),
    *joined(tuple(f"attention.attention.{name}" for name in ("query", "key", "value")), "attn.qkv"),
    *joined(tuple(f"attention.{name}_proj" for name in "qkv"), "attn.qkv"),
    Rule(("attention.q_proj.bias", "attention.v_proj.bias"), "attn.qkv.bias", pack_without_key, unpack_without_key),
    Rule("attention.output.dense.*", "attn.proj.*"),
    Rule("attention.o_proj.*", "attn.proj.*"),
    Rule("layer_scale{}.lambda1", "ls{}.gamma"),
    Rule("intermediate.dense.*", "mlp.fc1.*"),
    Rule("output.dense.*", "mlp.fc2.*"),
    *gated("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    Rule("mlp.weights_in.*", "mlp.fc1.*"),
    Rule("mlp.weights_out.*", "mlp.fc2.*"),
    Rule("mlp.up_proj.*", "mlp.fc1.*"),
    Rule("mlp.down_proj.*", "mlp.fc2.*"),
    Rule("mlp.fc1.*", "mlp.fc1.*"),
    Rule("mlp.fc2.*", "mlp.fc2.*"),
]
TRANSFORMERS_WHOLE = [
    Rule("pooler.*", None),
    Rule("embeddings.mask_token", None),
    Rule("embeddings.cls_token", "cls_token"),
    Rule("embeddings.distillation_token", "dist_token"),
    Rule("embeddings.register_tokens", "register_tokens"),
    Rule("embeddings.position_embeddings", "pos_embed"),
    *(Rule(f"embeddings.patch_embeddings.{name}*", "patch_embed.proj.*") for name in ("projection.", "")),
    Rule("layernorm.*", "norm.*"),
    Rule("norm.*", "norm.*"),
    *(
        r
        for at in ("encoder.layer", "layers", "layer", "model.layer")
        for r in in_blocks(TRANSFORMERS_BLOCK, at + ".{}.")
    ),
]
TRANSFORMERS = [
    *(Rule(name, None) for name in ("classifier.*", "cls_classifier.*", "distillation_classifier.*", "decoder.*")),
    *(
        Rule(within(start, rule.theirs), rule.ours, rule.value, rule.back)
        for start in ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.", "dinov3_vit.")
        for rule in TRANSFORMERS_WHOLE
    ),
]

TABLES = {
    "timm": OFFICIAL,
    "dinov2": [*CHUNKED, *OFFICIAL],
    "dinov3": [*CHUNKED, *OFFICIAL],
    **dict.fromkeys(("rstrudel", "isl-org", "depth-anything", "detectron2"), OFFICIAL),
    "mmseg": MMSEG,
    "transformers": TRANSFORMERS,
}

FRESH = r"norm\.(weight|bias)"
"""What a classifier that norms the mean of its patches (`fc_norm`) has nothing for."""

GROWN = (r"blocks\.\d+\.attn\.rel_pos_[hw]", r"blocks\.\d+\.residual\..*", r"blocks\.\d+\.ls[12]\.gamma")
"""What a detector adds to a pretrained network (ViTDet, ViT-Adapter), kind by kind: at its start it changes nothing
(LayerScale where it starts at 1)."""

OPTIONAL = r"rope_embed\.periods"
"""What follows from the configuration, and DINOv3's own files state all the same."""

UNUSED = r"cls_token|(cls_)?norm\..*"
"""What files have, and a model may be configured to do without."""
