"""What the configurations of mmdetection and mmsegmentation have in common: preprocessing, norms, activations."""

from typing import Any

from densevit.converters.config_spec import (
    LN_EPS,
    REQUIRED,
    ZERO,
    ConfigReader,
    ConfigSpec,
    Only,
    UnsupportedModelError,
    must_be,
    same,
)  # fmt: skip
from densevit.converters.key_mapping import KeyRule, rules
from densevit.errors import ConfigError

RELU = Only({"type": "ReLU"}, [{"type": "ReLU", "inplace": flag} for flag in (True, False)])
PLAIN_RELU = {"act_cfg": RELU}
"""Convolutions that end in a ReLU."""
NO_CONVS = dict.fromkeys(("conv_cfg", "norm_cfg"))
GELU = {"act_cfg": {"type": "GELU"}}
BATCH_NORM = ConfigSpec(
    fixed={"eps": 1e-5, "momentum": 0.1}, ignored="requires_grad", accepts="BN SyncBN BN2d", finish=lambda *_: "BN"
)
"""The norm of convolutions; SyncBN computes the same."""
LAYER_NORM = ConfigSpec(
    keys=same(eps=LN_EPS), ignored="requires_grad", accepts="LN", finish=lambda config, _: config["eps"]
)
"""The eps of a LayerNorm."""


def _swap_channels(config: dict[str, Any], reader: ConfigReader) -> None:
    swapped = bool(reader.pop("rgb_to_bgr", False)) or config["bgr_to_rgb"]
    config["bgr_to_rgb"] = swapped and len(config["mean"]) == 3


PREPROCESSOR = ConfigSpec(
    "Preprocessor",
    keys={
        "mean": ("mean", None, lambda mean: (0.0,) * 3 if mean is None else tuple(mean)),
        "std": ("std", None, lambda std: (1.0,) * 3 if std is None else tuple(std)),
        "bgr_to_rgb": ("bgr_to_rgb", False, bool),
    },
    fixed={"batch_augments": None}, ignored="non_blocking", finish=_swap_channels,
)  # fmt: skip
"""Without one nothing is normalized or padded."""

# ---- mmdetection's detectors -------------------------------------------------------------------------

CODER = ConfigSpec(
    keys={
        "target_means": ("target_means", (0.0, 0.0, 0.0, 0.0), tuple),
        "target_stds": ("target_stds", (1.0, 1.0, 1.0, 1.0), tuple),
    },
    fixed={"clip_border": True, "add_ctr_clamp": False}, ignored="ctr_clamp use_box_type",
    accepts="DeltaXYWHBBoxCoder",
)  # fmt: skip
PLAIN_CODER = {"type": "DeltaXYWHBBoxCoder"}


def _finish_anchors(config: dict[str, Any], reader: ConfigReader) -> None:
    pairs = list(reader.pop("strides"))
    strides = [pair[0] if isinstance(pair, (list, tuple)) else pair for pair in pairs]
    if any(isinstance(pair, (list, tuple)) and len(set(pair)) != 1 for pair in pairs):
        raise ConfigError(f"{reader.where}.strides are {pairs}; densevit has one stride for both directions.")
    reader.require("base_sizes", None, [strides])
    octaves = {key: reader.pop(key, None) for key in ("octave_base_scale", "scales_per_octave")}
    scales, config["in_strides"] = reader.pop("scales", None), tuple(strides)
    if scales is None and None in octaves.values():
        raise ConfigError(f"{reader.where} has neither scales nor octave_base_scale and scales_per_octave.")
    config |= octaves if scales is None else {"scales": tuple(scales)}


ANCHORS = ConfigSpec(
    keys={"ratios": ("ratios", REQUIRED, tuple)}, fixed={"scale_major": True, "centers": None, "center_offset": ZERO},
    ignored="use_box_type", accepts="AnchorGenerator", finish=_finish_anchors,
)  # fmt: skip
ASSIGNER = ConfigSpec(
    keys={
        "pos_iou_thr": "pos_iou",
        "neg_iou_thr": ("neg_iou", REQUIRED, lambda iou: tuple(iou) if isinstance(iou, list) else iou),
        "ignore_iof_thr": ("ignore_iof", -1), **same(min_pos_iou=0.0, match_low_quality=True),
        "ignore_wrt_candidates": ("ignore_of_region", True, lambda of_candidates: not of_candidates),
        "gt_max_assign_all": ("match_all_best", True),
    },
    fixed={"iou_calculator": {"type": "BboxOverlaps2D"}, "perm_repeat_gt_cfg": None},
    ignored="gpu_assign_thr",  # where it is computed, not what
    accepts="MaxIoUAssigner",
)  # fmt: skip
"""Arguments of `ops.matching.match_by_iou`."""


def _beta(config: dict[str, Any], reader: ConfigReader) -> None:
    """Where it turns from quadratic to linear; 0: linear throughout."""
    config["smooth_l1_beta"] = reader.pop("beta", 1.0) if reader.type == "SmoothL1Loss" else 0.0


SMOOTH_L1 = ConfigSpec(
    keys={"loss_weight": ("box_loss_weight", 1.0)}, fixed={"reduction": "mean"}, accepts="L1Loss SmoothL1Loss",
    finish=_beta,
)  # fmt: skip


def cross_entropy(ours: str, **flags: bool) -> ConfigSpec:
    """The weight of CrossEntropyLoss. flags: use_sigmoid and use_mask as they have to be."""
    checked = {key: (None, False, must_be(flags.get(key, False))) for key in ("use_sigmoid", "use_mask")}
    return ConfigSpec(
        keys={"loss_weight": (ours, 1.0), **checked},
        fixed={"reduction": "mean", "class_weight": None, "ignore_index": None, "avg_non_ignore": False},
        accepts="CrossEntropyLoss",
    )


NMS = ConfigSpec(
    fixed={"class_agnostic": False, "split_thr": 10000}, accepts="None nms",
    finish=lambda _, reader: reader.pop("iou_threshold" if "iou_threshold" in reader.remaining else "iou_thr"),
)  # fmt: skip
"""The threshold of plain NMS."""


def _positive_weight(weight: float) -> None:
    if weight > 0 and weight != 1:
        raise ValueError("densevit weighs positive samples like all others.")


TRAINED = {"pos_weight": (None, -1, _positive_weight)}
"""What a train_cfg has in any case."""
TEST = {"score_thr": ("score_thr", 0.0), "nms": ("nms_iou", REQUIRED, NMS), "max_per_img": "max_per_image"}
"""What a test_cfg has in any case."""

# ---- mmsegmentation's heads --------------------------------------------------------------------------


def conv_blocks(source: str, names: str) -> list[KeyRule]:
    """Convolutions with a norm: words `source->target`, or one name of both. source: whose name the norm has."""
    norm, found = {"mmseg": "bn", "transformers": "batch_norm"}[source], []
    for theirs, _, ours in (word.partition("->") for word in names.split()):
        found += rules(f"conv. {norm}.->norm.", f"{theirs}.", f"{ours or theirs}.")
    return found


def _class_weight(weight: Any) -> dict[str, list[float]]:
    if isinstance(weight, str):
        raise ValueError("a file; write the weights into the config.")
    return {} if weight is None else {"class_weight": [float(number) for number in weight]}


def _finish_cross_entropy(config: dict[str, Any], reader: ConfigReader) -> None:
    if reader.pop("use_sigmoid", False):
        if "class_weight" in config:
            raise ConfigError(f"{reader.where}.class_weight is not None, which densevit has for sigmoids.")
        config["type"] = "BinaryCrossEntropyLoss"


LOSS = ConfigSpec(keys=same(loss_weight=1.0), fixed={"reduction": "mean"}, ignored="loss_name")
WEIGHTED = {"class_weight": (None, None, _class_weight)}
LOSSES = {
    "CrossEntropyLoss": LOSS.but(
        type="CrossEntropyLoss", fixed={"use_mask": False}, finish=_finish_cross_entropy,
        keys={**same(avg_non_ignore=False), **WEIGHTED},
    ),
    "DiceLoss": LOSS.but(
        type="DiceLoss", constants={"avg_non_ignore": False}, fixed={"activate": True},
        keys={
            "use_sigmoid": ("probability", True, {True: "sigmoid", False: "softmax"}), **same(eps=1e-3),
            "naive_dice": ("squared", False, lambda naive: not naive), "ignore_index": ("left_out", 255),
        },
    ),
    "FocalLoss": LOSS.but(
        type="FocalLoss", keys={**same(gamma=2.0, alpha=0.5), **WEIGHTED}, constants={"avg_non_ignore": False},
        fixed={"use_sigmoid": True},
    ),
}  # fmt: skip
SAMPLER = ConfigSpec(keys=same(thresh=None, min_kept=100000), accepts="OHEMPixelSampler")


def _losses(config: dict[str, Any], head: ConfigReader) -> None:
    """`loss_decode`, one or several, with the head's `ignore_index` and `sampler`."""
    given = head.pop("loss_decode", {"type": "CrossEntropyLoss"})
    several = given if isinstance(given, (list, tuple)) else [given]
    ignored, found = head.pop("ignore_index", 255), []
    for i, options in enumerate(several):
        loss = ConfigReader(options, f"{head.where}.loss_decode" + (f"[{i}]" if len(several) > 1 else ""))
        ours = LOSSES[loss.of_type(*LOSSES).type](loss)
        if ours["loss_weight"] == 1:
            del ours["loss_weight"]
        if "left_out" in ours and ours["left_out"] not in range(config["num_classes"]):
            del ours["left_out"]
        found.append(ours if ignored == 255 else {**ours, "ignore_index": ignored})
    if (sampler := head.optional("sampler")) is not None:
        if len(found) != 1 or found[0]["type"] != "CrossEntropyLoss":
            raise UnsupportedModelError(
                f"{sampler.where} chooses pixels for other losses; densevit's is one of cross entropy."
            )
        found[0]["ohem"] = SAMPLER(sampler)
    config["losses"] = found


def finish_classifier(config: dict[str, Any], head: ConfigReader) -> None:
    """Losses and resizing."""
    count = config["num_classes"]
    if head.pop("out_channels", None) not in (None, count) or count == 1:
        raise UnsupportedModelError(
            f"{head.where} has one channel and a threshold for two classes; densevit has a channel for each class."
        )
    _losses(config, head)
    if head.pop("align_corners", False):
        config["align_corners"] = True


CLASSIFIER = ConfigSpec(
    keys={"num_classes": "num_classes", "dropout_ratio": ("dropout", 0.1)}, fixed={"conv_cfg": None},
    ignored="threshold init_cfg", finish=finish_classifier,
)  # fmt: skip
"""What every head has: number of classes, dropout, losses, resizing."""


def _batch_norm(norm: Any) -> None:
    if norm is None:
        raise ValueError("densevit has batch norm ('BN' or 'SyncBN') there.")
    BATCH_NORM(ConfigReader(norm, "norm_cfg"))


BN_RELU = {"norm_cfg": (None, None, _batch_norm)}
"""Convolutions with batch norm and, with PLAIN_RELU, ReLU, and no others."""
LN_6 = {
    "norm_layer": (
        None, {"type": "LN", "eps": 1e-6},
        ConfigSpec(
            fixed={"eps": 1e-6}, ignored="requires_grad", accepts="LN",
            prepare=lambda norm: norm.remaining.setdefault("eps", LN_EPS),
        ),
    )
}  # fmt: skip
"""LayerNorms of eps 1e-6."""
