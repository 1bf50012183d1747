"""FCN's head: mmsegmentation, transformers, and Segmenter's linear decoder."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.architectures.pvt import to_convolution, to_linear
from densevit.converters.config_spec import ConfigReader
from densevit.converters.key_mapping import KeyRule
from densevit.converters.openmmlab import BATCH_NORM, CLASSIFIER, PLAIN_RELU, conv_blocks


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[None, dict[str, Any]]:
    CLASSIFIER.finish(config, head)
    if config["num_convs"] == 0 and not config["concat_input"]:
        for key in ("channels", "kernel_size", "norm"):  # of convolutions that there are none of
            config.pop(key)
    return None, config


FCN = CLASSIFIER.but(
    type="FCNHead",
    keys={
        "num_convs": ("num_convs", 2), "channels": "channels", "kernel_size": ("kernel_size", 3),
        "concat_input": ("concat_input", True), "norm_cfg": ("norm", None, BATCH_NORM),
    },
    fixed={"dilation": 1, **PLAIN_RELU}, finish=_finish,
)  # fmt: skip
ARCHITECTURE = Architecture(
    "FCNHead",
    keys={
        **{
            source: [
                *conv_blocks(source, "convs.{}", "convs.{}"),
                *conv_blocks(source, "conv_cat", "join"),
                KeyRule(f"{name}.*", "cls_pred.*"),
            ]
            for source, name in (("mmseg", "conv_seg"), ("transformers", "classifier"))
        },
        "segmenter": [
            KeyRule("head.weight", "cls_pred.weight", to_convolution, to_linear),
            KeyRule("head.bias", "cls_pred.bias"),
        ],
    },
)
