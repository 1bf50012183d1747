"""Feature2Pyramid, of transposed convolutions: mmsegmentation."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader, ConfigSpec
from densevit.converters.key_mapping import renamed
from densevit.converters.openmmlab import BN_RELU

SCALES = ((4, 2, 1, 0.5), (2, 1, 0.5, 0.25))


def _known(scales: Any) -> tuple:
    if tuple(scales) not in SCALES:
        raise ValueError("densevit has 4, 2, 1, 0.5 or 2, 1, 0.5, 0.25 there.")
    return tuple(scales)


def _finish(config: dict[str, Any], reader: ConfigReader) -> None:
    config["in_channels"] = (reader.pop("embed_dim"),) * len(config["scales"])


_, _, BATCH = BN_RELU["norm_cfg"]
ARCHITECTURE = Architecture(
    "Feature2Pyramid",
    keys={
        "mmseg": renamed(
            **{
                "upsample_4x.0": "up4.first", "upsample_4x.1": "up4.norm", "upsample_4x.3": "up4.second",
                "upsample_2x.0": "up2.first",
            }
        )
    },
    configs={
        "mmseg": {
            "Feature2Pyramid": ConfigSpec(
                "Feature2Pyramid",
                keys={"rescales": ("scales", SCALES[0], _known), "norm_cfg": (None, {"type": "SyncBN"}, BATCH)},
                constants={"ceil_mode": False}, ignored=("init_cfg",), finish=_finish,
            )
        }
    },
)  # fmt: skip
