"""SETR's heads: mmsegmentation."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader
from densevit.converters.key_mapping import KeyRule, renamed, same
from densevit.converters.openmmlab import BN_RELU, CLASSIFIER, LN_6, PLAIN_RELU, conv_blocks


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[None, dict[str, Any]]:
    CLASSIFIER.finish(config, head)
    if "decoder" not in config:  # naive and progressive up-sampling differ in numbers alone
        config["decoder"] = "naive" if config["kernel_size"] == 1 else "pup"
    return None, config


HEAD = CLASSIFIER.but(type="SETRHead", keys={"up_scale": ("up_scale", 4), **BN_RELU}, fixed=PLAIN_RELU, finish=_finish)
ONE_MAP = HEAD.but(
    keys={**LN_6, "num_convs": ("num_convs", 1), "kernel_size": ("kernel_size", 3), "channels": "channels"}
)
"""SETRUPHead."""
SEVERAL_MAPS = HEAD.but(
    keys={"mla_channels": ("channels", 128)},
    constants={"decoder": "mla"},
    ignored=("channels",),  # those of all maps together
)
"""SETRMLAHead."""
ARCHITECTURE = Architecture(
    "SETRHead",
    keys={
        "mmseg": [
            *same("norm.*"),
            # two convolutions under each number are those of one map (MLA); one alone is a step of one map's
            *(
                KeyRule(
                    tuple(f"up_convs.{{}}.{i}.{theirs}.*" for i in (0, 1)),
                    tuple(f"branches.{{}}.{i}.{ours}.*" for i in (0, 1)),
                )
                for theirs, ours in (("conv", "conv"), ("bn", "norm"))
            ),
            *conv_blocks("mmseg", "up_convs.{}.0", "branches.0.{}"),
            *renamed(conv_seg="cls_pred"),
        ]
    },
)
