"""What the configurations of mmdetection's heads have in common: anchors, box coders, assigners, losses, NMS."""

from typing import Any

from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError


def of_type(settings: Settings, *names: str) -> Settings:
    """The settings, if they are of one of these types. Raises NotBuilt."""
    if settings.type not in names:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r}; densevit has {' or '.join(names)} there.")
    return settings


def anchors(settings: Settings) -> dict[str, Any]:
    """Scales, ratios and strides of AnchorGenerator."""
    pairs = list(settings.take("strides"))
    strides = [pair[0] if isinstance(pair, (list, tuple)) else pair for pair in pairs]
    if any(isinstance(pair, (list, tuple)) and len(set(pair)) != 1 for pair in pairs):
        raise ConfigError(f"{settings.where}.strides are {pairs}; densevit has one stride for both directions.")
    settings.expect("base_sizes", None, [strides])
    settings.expect("scale_major", True)
    settings.expect("centers", None)
    settings.expect("center_offset", 0.0, [0])
    settings.ignore("use_box_type")
    base, octaves = settings.take("octave_base_scale", None), settings.take("scales_per_octave", None)
    scales = settings.take("scales", None)
    config: dict[str, Any] = {"in_strides": tuple(strides), "ratios": tuple(settings.take("ratios"))}
    if scales is not None:
        config["scales"] = tuple(scales)
    elif base is None or octaves is None:
        raise ConfigError(f"{settings.where} has neither scales nor octave_base_scale and scales_per_octave.")
    else:
        config["octave_base_scale"], config["scales_per_octave"] = base, octaves
    settings.done()
    return config


def coder(settings: Settings) -> dict[str, Any]:
    """Means and deviations of DeltaXYWHBBoxCoder."""
    settings.expect("clip_border", True)
    settings.expect("add_ctr_clamp", False)
    settings.ignore("ctr_clamp", "use_box_type")
    config = {
        "target_means": tuple(settings.take("target_means", (0.0, 0.0, 0.0, 0.0))),
        "target_stds": tuple(settings.take("target_stds", (1.0, 1.0, 1.0, 1.0))),
    }
    settings.done()
    return config


def assigner(settings: Settings) -> dict[str, Any]:
    """MaxIoUAssigner as arguments of `ops.matching.match_by_iou`."""
    of_type(settings, "MaxIoUAssigner")
    settings.expect("iou_calculator", {"type": "BboxOverlaps2D"})
    settings.expect("perm_repeat_gt_cfg", None)
    settings.ignore("gpu_assign_thr")  # where it is computed, not what
    negative = settings.take("neg_iou_thr")
    config = {
        "pos_iou": settings.take("pos_iou_thr"),
        "neg_iou": tuple(negative) if isinstance(negative, (list, tuple)) else negative,
        "min_pos_iou": settings.take("min_pos_iou", 0.0),
        "ignore_iof": settings.take("ignore_iof_thr", -1),
        "ignore_of_region": not settings.take("ignore_wrt_candidates", True),
        "match_low_quality": settings.take("match_low_quality", True),
        "all_best": settings.take("gt_max_assign_all", True),
    }
    settings.done()
    return config


def smooth_l1(settings: Settings) -> tuple[float, float]:
    """L1Loss or SmoothL1Loss: where it turns from quadratic to linear (0: linear throughout), and its weight."""
    of_type(settings, "L1Loss", "SmoothL1Loss")
    settings.expect("reduction", "mean")
    beta = settings.take("beta", 1.0) if settings.type == "SmoothL1Loss" else 0.0
    weight = settings.take("loss_weight", 1.0)
    settings.done()
    return beta, weight


def cross_entropy(settings: Settings, **kind: bool) -> float:
    """The weight of CrossEntropyLoss. kind: use_sigmoid and use_mask as they have to be."""
    of_type(settings, "CrossEntropyLoss")
    for key in ("use_sigmoid", "use_mask"):
        if bool(settings.take(key, False)) != kind.get(key, False):
            raise ConfigError(f"{settings.where}.{key} is not {kind.get(key, False)}, which densevit has there.")
    settings.expect("reduction", "mean")
    settings.expect("class_weight", None)
    settings.expect("ignore_index", None)
    settings.expect("avg_non_ignore", False)
    weight = settings.take("loss_weight", 1.0)
    settings.done()
    return weight


def nms_iou(settings: Settings) -> float:
    """The threshold of plain NMS."""
    if settings.type not in (None, "nms"):
        raise NotBuilt(f"{settings.where}.type is {settings.type!r}; densevit has plain 'nms' there.")
    iou = settings.take("iou_threshold") if "iou_threshold" in settings.left else settings.take("iou_thr")
    settings.expect("class_agnostic", False)
    settings.expect("split_thr", 10000)
    settings.done()
    return iou


def positive_weight(train: Settings) -> None:
    """`pos_weight` and `debug` of a train_cfg, which have one value here."""
    weight = train.take("pos_weight", -1)
    if weight > 0 and weight != 1:
        raise ConfigError(f"{train.where}.pos_weight is {weight}; densevit weighs positive samples like all others.")
    train.ignore("debug")
