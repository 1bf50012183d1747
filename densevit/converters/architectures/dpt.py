"""DPT's head of classes: isl-org, mmsegmentation and transformers; and how its models are put together."""

from collections.abc import Mapping
from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader
from densevit.converters.key_mapping import ignored, renamed
from densevit.converters.openmmlab import BATCH_NORM, CLASSIFIER, PLAIN_RELU, conv_blocks


def whole_model(backbone: dict, neck: list[dict], head: dict, **preprocessor: Any) -> dict[str, Any]:
    """A whole model."""
    prepared = {"type": "Preprocessor", **preprocessor}
    return {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, "neck": neck, "head": head}


def necks_of(widths: Any, readout: str, channels: int, **fusion: Any) -> list[dict[str, Any]]:
    """Both necks. fusion: what is not DPTFusion's default."""
    return [
        {"type": "DPTReassemble", "channels": tuple(widths), "readout": readout},
        {"type": "DPTFusion", "channels": channels, **fusion},
    ]


def test_resize(side: int, divisor: int, fit: str = "cover") -> dict[str, Any]:
    """Arguments of the transform `Resize` that prepares a test image as the projects do: cv2's bicubic sampling."""
    return {"scale": (side, side), "fit": fit, "divisor": divisor, "cubic": True}


def needs_token(head: Mapping[str, Any]) -> bool:
    """Whether a head of mmsegmentation reads the class token."""
    return str(head.get("type")).endswith("DPTHead") and head.get("readout_type", "ignore") != "ignore"


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    parts = [config.pop(key) for key in ("widths", "readout", "channels")]
    CLASSIFIER.finish(config, head)
    return necks_of(*parts, norm=config["norm"], conv_bias=False, fit="skip"), config


HEAD = CLASSIFIER.but(
    type="DPTHead",
    keys={
        "norm_cfg": ("norm", None, BATCH_NORM), "post_process_channels": ("widths", (96, 192, 384, 768)),
        "readout_type": ("readout", "ignore"), "channels": "channels",
    },
    fixed={"expand_channels": False, **PLAIN_RELU},
    ignored=("embed_dims", "patch_size"),  # the backbone's
    defaults={"norm_cfg": {"type": "BN"}}, finish=_finish,
)  # fmt: skip
"""DPTHead of mmsegmentation: both necks, and the head that classifies what comes out."""
SEQUENCE = {"0": "project.conv", "1": "project.norm", "4": "cls_pred"}
"""isl-org's classifier, whose layers are counted."""
ARCHITECTURE = Architecture(
    "DPTHead",
    keys={
        "dpt": [*renamed(**{f"output_conv.{i}": name for i, name in SEQUENCE.items()}), *ignored("auxlayer.*")],
        "mmseg": [*conv_blocks("mmseg", "project", "project"), *renamed(conv_seg="cls_pred")],
        "transformers": [*renamed(**{f"head.{i}": name for i, name in SEQUENCE.items()}), *ignored("auxiliary_head.*")],
    },
)
