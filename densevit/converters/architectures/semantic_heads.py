"""Heads of semantic classes and the necks inside them: FCN, UPerNet, Semantic FPN and SETR of mmsegmentation, the first
two of transformers too, and Segmenter's linear decoder.

A spec of a head gives our head, with our neck under `neck` where theirs holds one.
"""

from typing import Any

from densevit.converters.config_spec import REQUIRED, Architecture, ConfigReader, ConfigSpec, same
from densevit.converters.key_mapping import linear, rules
from densevit.converters.openmmlab import (
    BATCH_NORM,
    BN_RELU,
    CLASSIFIER,
    LN_6,
    PLAIN_RELU,
    RELU,
    conv_blocks,
    finish_classifier,
)  # fmt: skip

LAST = {"mmseg": "conv_seg", "transformers": "classifier"}
"""Sources of FCN and UPerNet, and their last layer."""


def _finish_fcn(config: dict[str, Any], head: ConfigReader) -> None:
    finish_classifier(config, head)
    if config["num_convs"] == 0 and not config["concat_input"]:
        for key in ("channels", "kernel_size", "norm"):  # of convolutions that there are none of
            config.pop(key)


FCN = CLASSIFIER.but(
    type="FCNHead",
    keys={
        "channels": "channels", **same(num_convs=2, kernel_size=3, concat_input=True),
        "norm_cfg": ("norm", None, BATCH_NORM),
    },
    fixed={"dilation": 1, **PLAIN_RELU}, finish=_finish_fcn,
)  # fmt: skip


def _finish_upernet(config: dict[str, Any], head: ConfigReader) -> None:
    finish_classifier(config, head)
    config["neck"] |= {"align_corners": True} if config.get("align_corners") else {}


UPERNET = CLASSIFIER.but(
    type="FCNHead",
    keys={
        "channels": "neck.channels", "pool_scales": ("neck.pool_scales", (1, 2, 3, 6), tuple), **BN_RELU,
    },
    constants={"num_convs": 0, "neck": {"type": "UPerNet"}}, fixed=PLAIN_RELU, finish=_finish_upernet,
)  # fmt: skip
SEMANTIC_FPN = CLASSIFIER.but(
    type="SemanticFPNHead", fixed=PLAIN_RELU,
    keys={"feature_strides": ("in_strides", REQUIRED, tuple), "channels": "channels", **BN_RELU},
)  # fmt: skip
"""`in_strides` are those of the maps that it is for."""


def _finish_setr(config: dict[str, Any], head: ConfigReader) -> None:
    finish_classifier(config, head)
    if "decoder" not in config:  # naive and progressive up-sampling differ in numbers alone
        config["decoder"] = "naive" if config["kernel_size"] == 1 else "pup"


SETR = CLASSIFIER.but(type="SETRHead", keys={**same(up_scale=4), **BN_RELU}, fixed=PLAIN_RELU, finish=_finish_setr)
HEADS = {
    "UPerHead": UPERNET, "FCNHead": FCN, "FPNHead": SEMANTIC_FPN,
    "SETRUPHead": SETR.but(keys={**LN_6, **same(num_convs=1, kernel_size=3), "channels": "channels"}),
    "SETRMLAHead": SETR.but(
        keys={"mla_channels": ("channels", 128)}, constants={"decoder": "mla"},
        ignored="channels",  # those of all maps together
    ),
}  # fmt: skip
MLA = ConfigSpec(
    "MLANeck",
    keys={
        **LN_6, "in_channels": ("in_channels", REQUIRED, tuple), "out_channels": "channels",
        "norm_cfg": ("norm", None, BATCH_NORM),
    },
    fixed={"act_cfg": RELU}, ignored="init_cfg", defaults={"act_cfg": None},
)  # fmt: skip


POOLED = "psp_modules.{}.1->pooled_convs.{} bottleneck lateral_convs.{} fpn_convs.{} fpn_bottleneck->fusion"
LONGEST = 6
"""Convolutions of a branch of Semantic FPN that the rules name: enough for a stride 64 times the first."""
SEMANTIC_FPN_KEYS = [
    f"scale_heads.{{}}.{2 * i}.{theirs}.->merge.branches.{{}}.{i}.{ours}."
    for i in range(LONGEST)  # mmsegmentation counts the enlargements between them
    for theirs, ours in (("conv", 0), ("bn", 1))
]
SETR_KEYS = [
    *rules("norm. conv_seg.->cls_pred."),
    # two convolutions under each number are those of one map (MLA); one alone is a step of one map's
    *rules("up_convs.{}.0.conv.|up_convs.{}.1.conv.->branches.{}.0.conv.|branches.{}.1.conv."),
    *rules("up_convs.{}.0.bn.|up_convs.{}.1.bn.->branches.{}.0.norm.|branches.{}.1.norm."),
    *conv_blocks("mmseg", "up_convs.{}.0->branches.0.{}"),
]
MLA_KEYS = conv_blocks("mmseg", "mla.channel_proj.{}->lateral_convs.{} mla.feat_extract.{}->output_convs.{}")
ARCHITECTURES = (
    Architecture(
        "FCNHead",
        {
            **{s: conv_blocks(s, "convs.{} conv_cat->join") + rules(f"{name}.->cls_pred.") for s, name in LAST.items()},
            "segmenter": linear("head", "cls_pred"),
        },
    ),
    Architecture("UPerNet", {source: conv_blocks(source, POOLED) for source in LAST}),
    Architecture("SemanticFPNHead", {"mmseg": rules(" ".join(SEMANTIC_FPN_KEYS) + " conv_seg.->cls_pred.")}),
    Architecture("SETRHead", {"mmseg": SETR_KEYS}),
    Architecture("MLANeck", {"mmseg": rules("norm.{}.->norms.{}.") + MLA_KEYS}, {"mmseg": {"MLANeck": MLA}}),
)
