"""DPT: isl-org, Depth-Anything, mmsegmentation and transformers; and how its models are put together.

The repositories count four levels of the fusion, the finest first; our blocks, as the other two's, begin with the
coarsest. Its first unit is in no project's forward, and ignored.
"""

from collections.abc import Mapping
from typing import Any

from densevit.converters.config_spec import Architecture, ConfigReader
from densevit.converters.key_mapping import KeyRule, linear, rules
from densevit.converters.openmmlab import BATCH_NORM, CLASSIFIER, PLAIN_RELU, conv_blocks, finish_classifier


def whole_model(backbone: dict, neck: list[dict], head: dict, **preprocessor: Any) -> dict[str, Any]:
    """A whole model."""
    prepared = {"type": "Preprocessor", **preprocessor}
    return {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, "neck": neck, "head": head}


def necks_of(widths: Any, readout: str, channels: int, **fusion: Any) -> list[dict[str, Any]]:
    """Both necks. fusion: what is not DPTFusion's default."""
    reassemble = {"type": "DPTReassemble", "channels": tuple(widths), "readout": readout}
    return [reassemble, {"type": "DPTFusion", "channels": channels, **fusion}]


def test_resize(side: int, divisor: int, fit: str = "cover") -> dict[str, Any]:
    """Arguments of the transform `Resize` that prepares a test image as the projects do: cv2's bicubic sampling."""
    return {"scale": (side, side), "fit": fit, "divisor": divisor, "cubic": True}


def needs_token(head: Mapping[str, Any]) -> bool:
    """Whether a head of mmsegmentation reads the class token."""
    return str(head.get("type")).endswith("DPTHead") and head.get("readout_type", "ignore") != "ignore"


def _finish(config: dict[str, Any], head: ConfigReader) -> None:
    parts = [config.pop(key) for key in ("widths", "readout", "channels")]
    finish_classifier(config, head)
    config["neck"] = necks_of(*parts, norm=config["norm"], conv_bias=False, fit="skip")


HEAD = CLASSIFIER.but(
    type="DPTHead",
    keys={
        "norm_cfg": ("norm", None, BATCH_NORM), "post_process_channels": ("widths", (96, 192, 384, 768)),
        "readout_type": ("readout", "ignore"), "channels": "channels",
    },
    fixed={"expand_channels": False, **PLAIN_RELU}, ignored="embed_dims patch_size",  # the backbone's
    defaults={"norm_cfg": {"type": "BN"}}, finish=_finish,
)  # fmt: skip
"""DPTHead of mmsegmentation: both necks, and the head that classifies what comes out."""


def _reassemble(readout: str, theirs: str) -> list[KeyRule]:
    """readout: the layer that mixes the class token's channels in; theirs: words of the others."""
    return linear(readout, "readout_projects.{}.0") + rules(theirs)


LEVELS = 4
REPOSITORIES = rules(
    f"layer{{+1}}_rn.weight->lateral_convs.{{}}.weight !refinenet{LEVELS}.resConfUnit1. "
    + " ".join(
        f"refinenet{LEVELS - i}.{theirs}.->blocks.{i}.{ours}."
        for i in range(LEVELS)
        for theirs, ours in (
            ("resConfUnit{}.conv{}", "unit{}.conv{}"), ("resConfUnit{}.bn{}", "unit{}.norm{}"), ("out_conv",) * 2,
        )
    )
)  # fmt: skip
FUSION = {
    **dict.fromkeys(("dpt", "depth_anything"), REPOSITORIES),
    "mmseg": rules("convs.{}.conv.weight->lateral_convs.{}.weight")
    + rules(
        "res_conv_unit{}.conv{}.conv.->unit{}.conv{}. res_conv_unit{}.conv{}.bn.->unit{}.norm{}. "
        "project.conv.->out_conv.",
        "fusion_blocks.{}.", "blocks.{}.",
    ),
    "transformers": rules("convs.{}.weight->lateral_convs.{}.weight !fusion_stage.layers.0.residual_layer1.")
    + rules(
        "residual_layer{}.convolution{}.->unit{}.conv{}. residual_layer{}.batch_norm{}.->unit{}.norm{}. "
        "projection.->out_conv.",
        "fusion_stage.layers.{}.", "blocks.{}.",
    ),
}  # fmt: skip
SEQUENCE = "0.->project.conv. {0}1.->project.norm. {0}4.->cls_pred."
"""The repository's classifier, whose layers are counted."""
DEPTH = "{}->conv1. {}->conv2. {}->depth_pred."
ARCHITECTURES = (
    Architecture(
        "DPTReassemble",
        {
            "dpt": _reassemble(
                "act_postprocess{+1}.0.project.0",
                "act_postprocess{+1}.3.->projects.{}. act_postprocess{+1}.4.->resize_layers.{}.",
            ),
            "depth_anything": _reassemble("readout_projects.{}.0", "projects.{}. resize_layers.{}."),
            "mmseg": _reassemble("readout_projects.{}.0", "projects.{}.conv.->projects.{}. resize_layers.{}."),
            "transformers": _reassemble(
                "readout_projects.{}.0", "layers.{}.projection.->projects.{}. layers.{}.resize.->resize_layers.{}."
            ),
        },
    ),
    Architecture("DPTFusion", FUSION),
    Architecture(
        "DPTHead",
        {
            "dpt": rules("!auxlayer. output_conv." + SEQUENCE.format("output_conv.")),
            "mmseg": conv_blocks("mmseg", "project") + rules("conv_seg.->cls_pred."),
            "transformers": rules("!auxiliary_head. head." + SEQUENCE.format("head.")),
        },
    ),
    Architecture(
        "DPTDepthHead",
        {
            "dpt": rules(DEPTH.format("output_conv.0.", "output_conv.2.", "output_conv.4.")),
            "depth_anything": rules(DEPTH.format("output_conv1.", "output_conv2.0.", "output_conv2.2.")),
            "transformers": rules("projection. " + DEPTH.format("head.0.", "head.2.", "head.4."))
            + rules(DEPTH.format("conv1.", "conv2.", "conv3.")),
        },
    ),
)
