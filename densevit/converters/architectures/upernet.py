"""UPerNet: mmsegmentation and transformers."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader
from densevit.converters.openmmlab import BN_RELU, CLASSIFIER, PLAIN_RELU, conv_blocks


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[dict[str, Any], dict[str, Any]]:
    neck = {"type": "UPerNet", "channels": config.pop("channels"), "pool_scales": config.pop("pool_scales")}
    CLASSIFIER.finish(config, head)
    return neck | ({"align_corners": True} if config.get("align_corners") else {}), config


FUSED = CLASSIFIER.but(
    type="FCNHead", keys={"channels": "channels", "pool_scales": ("pool_scales", (1, 2, 3, 6), tuple), **BN_RELU},
    constants={"num_convs": 0}, fixed=PLAIN_RELU, finish=_finish,
)  # fmt: skip
"""UPerHead: the neck that fuses, and the head that classifies what comes out."""
ARCHITECTURE = Architecture(
    "UPerNet",
    keys={
        source: [
            *conv_blocks(source, "psp_modules.{}.1", "pooled_convs.{}"),
            *conv_blocks(source, "bottleneck", "bottleneck"),
            *conv_blocks(source, "lateral_convs.{}", "lateral_convs.{}"),
            *conv_blocks(source, "fpn_convs.{}", "fpn_convs.{}"),
            *conv_blocks(source, "fpn_bottleneck", "fusion"),
        ]
        for source in ("mmseg", "transformers")
    },
)
