"""Semantic FPN's head: mmsegmentation."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import REQUIRED, ConfigReader
from densevit.converters.key_mapping import KeyRule, renamed
from densevit.converters.openmmlab import BN_RELU, CLASSIFIER, PLAIN_RELU

LONGEST = 6
"""Convolutions of a branch that the rules name: enough for a stride 64 times the first."""


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[None, dict[str, Any]]:
    CLASSIFIER.finish(config, head)
    return None, config


HEAD = CLASSIFIER.but(
    type="SemanticFPNHead",
    keys={"feature_strides": ("in_strides", REQUIRED, tuple), "channels": "channels", **BN_RELU},
    fixed=PLAIN_RELU,
    finish=_finish,
)
"""FPNHead. `in_strides` are those of the maps that it is for."""
ARCHITECTURE = Architecture(
    "SemanticFPNHead",
    keys={
        "mmseg": [
            *(
                KeyRule(f"scale_heads.{{}}.{2 * i}.{theirs}.*", f"merge.branches.{{}}.{i}.{ours}.*")
                for i in range(LONGEST)  # mmsegmentation counts the enlargements between them
                for theirs, ours in (("conv", 0), ("bn", 1))
            ),
            *renamed(conv_seg="cls_pred"),
        ]
    },
)
