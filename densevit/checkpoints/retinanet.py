"""RetinaNet's head: names and configurations of mmdetection (2.x and 3.x alike)."""

from typing import Any

from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

TABLES = {
    "mmdet": [
        Rule("cls_convs.{}.conv.*", "cls_convs.{}.*"),
        Rule("reg_convs.{}.conv.*", "reg_convs.{}.*"),
        Rule("retina_cls.*", "retina_cls.*"),
        Rule("retina_reg.*", "retina_reg.*"),
    ],
}
ANCHORS = {
    "type": "AnchorGenerator",
    "octave_base_scale": 4,
    "scales_per_octave": 3,
    "ratios": [0.5, 1.0, 2.0],
    "strides": [8, 16, 32, 64, 128],
}


def _of_type(settings: Settings, *names: str) -> Settings:
    if settings.type not in names:
        raise NotBuilt(f"{settings.where}.type is {settings.type!r}; densevit's RetinaNet has {' or '.join(names)}.")
    return settings


def _anchors(settings: Settings) -> dict[str, Any]:
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


def _coder(settings: Settings) -> dict[str, Any]:
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


def _losses(head: Settings) -> dict[str, Any]:
    """Both losses; without a word mmdetection's head would take cross entropy and smooth L1 of beta 1/9."""
    focal = _of_type(head.part("loss_cls", {"type": "CrossEntropyLoss"}), "FocalLoss")
    if focal.take("use_sigmoid", False) is not True:  # without it the head has a background channel and a softmax
        raise ConfigError(f"{focal.where}.use_sigmoid is not True; densevit's RetinaNet has independent classes.")
    focal.expect("reduction", "mean")
    focal.expect("activated", False)
    config = {
        "focal_gamma": focal.take("gamma", 2.0),
        "focal_alpha": focal.take("alpha", 0.25),
        "class_loss_weight": focal.take("loss_weight", 1.0),
    }
    focal.done()
    box = _of_type(head.part("loss_bbox", {"type": "SmoothL1Loss", "beta": 1 / 9}), "L1Loss", "SmoothL1Loss")
    box.expect("reduction", "mean")
    config["smooth_l1_beta"] = box.take("beta", 1.0) if box.type == "SmoothL1Loss" else 0.0
    config["box_loss_weight"] = box.take("loss_weight", 1.0)
    box.done()
    return config


def _assign(train: Settings) -> dict[str, Any]:
    """The assigner of `train_cfg`; what else stands there has one value here."""
    border = train.take("allowed_border", -1)
    weight = train.take("pos_weight", -1)
    if weight > 0 and weight != 1:
        raise ConfigError(f"{train.where}.pos_weight is {weight}; densevit weighs positive anchors like all others.")
    train.ignore("debug")
    if train.left.get("sampler") is not None:
        _of_type(train.part("sampler"), "PseudoSampler").done()
    else:
        train.ignore("sampler")
    assigner = _of_type(train.part("assigner"), "MaxIoUAssigner")
    train.done()
    assigner.expect("iou_calculator", {"type": "BboxOverlaps2D"})
    assigner.expect("perm_repeat_gt_cfg", None)
    assigner.ignore("gpu_assign_thr")  # where it is computed, not what
    negative = assigner.take("neg_iou_thr")
    config = {
        "pos_iou": assigner.take("pos_iou_thr"),
        "neg_iou": tuple(negative) if isinstance(negative, (list, tuple)) else negative,
        "min_pos_iou": assigner.take("min_pos_iou", 0.0),
        "ignore_iof": assigner.take("ignore_iof_thr", -1),
        "ignore_of_region": not assigner.take("ignore_wrt_candidates", True),
        "match_low_quality": assigner.take("match_low_quality", True),
        "all_best": assigner.take("gt_max_assign_all", True),
        "allowed_border": border,
    }
    assigner.done()
    return config


def _test(test: Settings) -> dict[str, Any]:
    """`test_cfg`, with what mmdetection takes where a key is absent."""
    nms = test.part("nms")
    if nms.type not in (None, "nms"):
        raise NotBuilt(f"{nms.where}.type is {nms.type!r}; densevit's RetinaNet has plain 'nms'.")
    iou = nms.take("iou_threshold") if "iou_threshold" in nms.left else nms.take("iou_thr")
    nms.expect("class_agnostic", False)
    nms.expect("split_thr", 10000)
    nms.done()
    config = {
        "nms_pre": test.take("nms_pre", -1),
        "score_thr": test.take("score_thr", 0.0),
        "nms_iou": iou,
        "max_per_image": test.take("max_per_img"),
        "min_size": test.take("min_bbox_size", -1),
    }
    test.done()
    return config


def from_mmdet(head: Settings, train: Settings | None, test: Settings | None) -> dict[str, Any]:
    """RetinaHead of mmdetection with the detector's train_cfg and test_cfg."""
    head.expect("conv_cfg", None)
    head.expect("norm_cfg", None)
    head.expect("reg_decoded_bbox", False)
    head.ignore("init_cfg")
    config = {
        "type": "RetinaNetHead",
        "num_classes": head.take("num_classes"),
        "in_channels": head.take("in_channels"),
        "feat_channels": head.take("feat_channels", 256),
        "stacked_convs": head.take("stacked_convs", 4),
        **_anchors(_of_type(head.part("anchor_generator", ANCHORS), "AnchorGenerator")),
        **_coder(_of_type(head.part("bbox_coder", {"type": "DeltaXYWHBBoxCoder"}), "DeltaXYWHBBoxCoder")),
        **_losses(head),
    }
    train = head.part("train_cfg") if train is None and head.left.get("train_cfg") else train
    test = head.part("test_cfg") if test is None and head.left.get("test_cfg") else test
    head.ignore("train_cfg", "test_cfg")
    head.done()
    if train is not None:
        config["assign"] = _assign(train)
    if test is not None:
        config["test"] = _test(test)
    return config
