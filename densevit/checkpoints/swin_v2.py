"""Swin V2: the names of microsoft, timm and transformers. Ours are microsoft's, with one norm for each returned map."""

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.swin import OFFICIAL, TIMM, pack, transformers_table, unpack

TABLES = {
    "microsoft": OFFICIAL,
    "timm": TIMM,
    "transformers": transformers_table(
        "swinv2",
        [
            Rule(
                tuple(f"attention.self.{name}.weight" for name in ("query", "key", "value")),
                "attn.qkv.weight",
                pack,
                unpack,
            ),
            Rule("attention.self.query.bias", "attn.q_bias"),
            Rule("attention.self.value.bias", "attn.v_bias"),
            Rule("attention.self.logit_scale", "attn.logit_scale"),
            Rule("attention.self.continuous_position_bias_mlp.*", "attn.cpb_mlp.*"),
            Rule("attention.self.relative_position_index", None),
            Rule("attention.self.relative_coords_table", None),
        ],
    ),
}
