"""ViTDet's simple feature pyramid: detectron2. Ours are its names."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader, ConfigSpec
from densevit.converters.key_mapping import same

LAST_LEVEL = ConfigSpec(accepts=("LastLevelMaxPool",))


def _finish(config: dict[str, Any], reader: ConfigReader) -> tuple[dict[str, Any], int]:
    config["top_level"] = config["top_level"] is not None
    return config, reader.pop("square_pad", 0)


PYRAMID = ConfigSpec(
    "SimpleFeaturePyramid",
    keys={"out_channels": "channels", "scale_factors": "scales", "top_block": ("top_level", None, LAST_LEVEL)},
    constants={"ceil_mode": False}, fixed={"norm": "LN"}, ignored=("in_feature",), finish=_finish,
)  # fmt: skip
"""SimpleFeaturePyramid, less its net: our neck, and the side that batches are padded to (0: none)."""
ARCHITECTURE = Architecture("SimpleFeaturePyramid", keys={"detectron2": same("*")})
