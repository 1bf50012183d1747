"""Semantic FPN's head: names and configuration of mmsegmentation."""

from typing import Any

from densevit.checkpoints.conv_names import NORM_NAMES
from densevit.checkpoints.mmseg_terms import batch_norm_relu, classifier
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings

LONGEST = 6
"""Convolutions of a branch whose names the table knows: enough for a stride 64 times the first."""

TABLES = {
    "mmseg": [
        *(
            Rule(f"scale_heads.{{}}.{2 * place}.{theirs}.*", f"merge.branches.{{}}.{place}.{ours}.*")
            for place in range(LONGEST)  # mmsegmentation counts the enlargements between them
            for theirs, ours in (("conv", 0), (NORM_NAMES["mmseg"], 1))
        ),
        Rule("conv_seg.*", "classify.*"),
    ]
}


def from_mmseg(head: Settings) -> tuple[None, dict[str, Any]]:
    """FPNHead. `in_strides` are those of the maps that it is for."""
    batch_norm_relu(head)
    return None, {
        "type": "SemanticFPNHead",
        "in_strides": tuple(head.take("feature_strides")),
        "channels": head.take("channels"),
        **classifier(head),
    }
