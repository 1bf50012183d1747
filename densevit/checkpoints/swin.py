"""Swin: the names of microsoft's two repositories, detectron2, mmdetection, timm and transformers.

Ours are microsoft's, with one norm for each returned map as in its detection repository.
"""

import torch
from torch import Tensor

from densevit.checkpoints.rules import Rule


def to_table(table: Tensor) -> Tensor:
    """Absolute positions as a table (1, h*w, C), also where they are kept as a map (1, C, h, w)."""
    return table.flatten(2).transpose(1, 2) if table.ndim == 4 else table


def from_unfold(weight: Tensor) -> Tensor:
    """Merging's last dimension (..., C, row, column), as mmdetection unfolds it, into ours (..., column, row, C)."""
    return weight.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2).flatten(-3)


def to_unfold(weight: Tensor) -> Tensor:
    """The way back of `from_unfold`."""
    return weight.unflatten(-1, (2, 2, -1)).transpose(-3, -2).movedim(-1, -3).flatten(-3)


def pack(*parts: Tensor) -> Tensor:
    """Query, key and value projections as one."""
    return torch.cat(parts)


def unpack(packed: Tensor) -> tuple[Tensor, ...]:
    """The way back of `pack`."""
    return packed.chunk(3)


CLASSIFIER = [Rule("norm.*", None), Rule("head.*", None)]
COMPUTED = ("attn.relative_position_index", "attn.relative_coords_table", "attn_mask")
"""Tensors of a block that follow from the sizes; files hold them all the same."""

OFFICIAL = [
    *CLASSIFIER,
    *(Rule(f"layers.{{}}.blocks.{{}}.{name}", None) for name in COMPUTED),
    Rule("absolute_pos_embed", "absolute_pos_embed", to_table, to_table),
    Rule("patch_embed.*", "patch_embed.*"),
    Rule("layers.{}.*", "layers.{}.*"),
    Rule("norm{}.*", "norm{}.*"),
]
"""microsoft's names for both generations."""

TIMM = [
    *CLASSIFIER,
    Rule("patch_embed.*", "patch_embed.*"),
    *(
        rule
        for stage in ("layers.{}", "layers_{}")
        for rule in (
            *(Rule(f"{stage}.blocks.{{}}.{name}", None) for name in COMPUTED),
            Rule(f"{stage}.downsample.*", "layers.{-1}.downsample.*"),
            Rule(f"{stage}.blocks.*", "layers.{}.blocks.*"),
        )
    ),
]
"""timm's for both: it merges at the start of a stage, and writes `layers_0` in what it makes with features_only."""

BLOCK = [
    Rule("layernorm_before.*", "norm1.*"),
    Rule("layernorm_after.*", "norm2.*"),
    Rule("attention.output.dense.*", "attn.proj.*"),
    Rule("intermediate.dense.*", "mlp.fc1.*"),
    Rule("output.dense.*", "mlp.fc2.*"),
]
"""transformers' names within a block of either generation."""


def within(place: str, names: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    """A rule's names with `place` before each."""
    return tuple(place + name for name in names) if isinstance(names, tuple) else names and place + names


def transformers_table(prefix: str, block: list[Rule]) -> list[Rule]:
    """The names of transformers' Swin or Swin V2, which begin with `prefix` or not, as the saved model was.

    block: the family's rules within a block.
    """
    rules = [Rule("classifier.*", None), Rule("hidden_states_norms.stage{+1}.*", "norm{}.*")]
    for start in ("", f"{prefix}."):
        rules += [
            Rule(f"{start}layernorm.*", None),
            Rule(f"{start}embeddings.mask_token", None),
            Rule(f"{start}embeddings.position_embeddings", "absolute_pos_embed"),
            Rule(f"{start}embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
            Rule(f"{start}embeddings.norm.*", "patch_embed.norm.*"),
            Rule(f"{start}encoder.layers.{{}}.downsample.*", "layers.{}.downsample.*"),
        ]
        theirs, ours = f"{start}encoder.layers.{{}}.blocks.{{}}.", "layers.{}.blocks.{}."
        rules += [
            Rule(within(theirs, rule.theirs), within(ours, rule.ours), rule.value, rule.back)
            for rule in (*BLOCK, *block)
        ]
    return rules


BIAS_TABLE = "attn.relative_position_bias_table"
OPENMMLAB = [
    Rule("stages.{}.blocks.{}.attn.w_msa.relative_position_index", None),
    Rule("absolute_pos_embed", "absolute_pos_embed"),
    Rule("patch_embed.projection.*", "patch_embed.proj.*"),
    Rule("patch_embed.norm.*", "patch_embed.norm.*"),
    Rule("stages.{}.blocks.{}.attn.w_msa.*", "layers.{}.blocks.{}.attn.*"),
    Rule("stages.{}.blocks.{}.ffn.layers.0.0.*", "layers.{}.blocks.{}.mlp.fc1.*"),
    Rule("stages.{}.blocks.{}.ffn.layers.1.*", "layers.{}.blocks.{}.mlp.fc2.*"),
    Rule("stages.{}.blocks.*", "layers.{}.blocks.*"),
    Rule("stages.{}.downsample.*", "layers.{}.downsample.*", from_unfold, to_unfold),
    Rule("norm{}.*", "norm{}.*"),
]
"""mmdetection's and mmsegmentation's names."""

TABLES = {
    "microsoft": OFFICIAL,
    "detectron2": OFFICIAL,
    "mmdet": OPENMMLAB,
    "mmseg": OPENMMLAB,
    "timm": TIMM,
    # files have the older names (attention.self.query), models of transformers 5 the newer ones (attention.q_proj)
    "transformers": transformers_table(
        "swin",
        [
            *(
                Rule(tuple(f"attention.{name}.{kind}" for name in names), f"attn.qkv.{kind}", pack, unpack)
                for names in (("self.query", "self.key", "self.value"), ("q_proj", "k_proj", "v_proj"))
                for kind in ("weight", "bias")
            ),
            Rule("attention.o_proj.*", "attn.proj.*"),
            Rule("mlp.*", "mlp.*"),
            *(
                rule
                for owner in ("self", "relative_position_bias")
                for rule in (
                    Rule(f"attention.{owner}.relative_position_bias_table", BIAS_TABLE),
                    Rule(f"attention.{owner}.relative_position_index", None),
                )
            ),
        ],
    ),
}
