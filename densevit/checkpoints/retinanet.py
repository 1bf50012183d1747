"""RetinaNet's head: names and configurations of mmdetection (2.x and 3.x alike)."""

from typing import Any

from densevit.checkpoints.mmdet_terms import anchors, assigner, coder, nms_iou, of_type, positive_weight, smooth_l1
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import Settings
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


def _losses(head: Settings) -> dict[str, Any]:
    """Both losses; without a word mmdetection's head would take cross entropy and smooth L1 of beta 1/9."""
    focal = of_type(head.part("loss_cls", {"type": "CrossEntropyLoss"}), "FocalLoss")
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
    config["smooth_l1_beta"], config["box_loss_weight"] = smooth_l1(
        head.part("loss_bbox", {"type": "SmoothL1Loss", "beta": 1 / 9})
    )
    return config


def _assign(train: Settings) -> dict[str, Any]:
    """The assigner of `train_cfg`; what else stands there has one value here."""
    border = train.take("allowed_border", -1)
    positive_weight(train)
    if train.left.get("sampler") is not None:
        of_type(train.part("sampler"), "PseudoSampler").done()
    else:
        train.ignore("sampler")
    config = {**assigner(train.part("assigner")), "allowed_border": border}
    train.done()
    return config


def _test(test: Settings) -> dict[str, Any]:
    """`test_cfg`, with what mmdetection takes where a key is absent."""
    config = {
        "nms_pre": test.take("nms_pre", -1),
        "score_thr": test.take("score_thr", 0.0),
        "nms_iou": nms_iou(test.part("nms")),
        "max_per_image": test.take("max_per_img"),
        "min_size": test.take("min_bbox_size", -1),
    }
    test.done()
    return config


def from_mmdet(model: Settings) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of RetinaNet: bbox_head, train_cfg and test_cfg of the detector.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    head = of_type(model.part("bbox_head"), "RetinaHead")
    train = model.part("train_cfg") if model.left.get("train_cfg") else model.ignore("train_cfg")
    test = model.part("test_cfg") if model.left.get("test_cfg") else model.ignore("test_cfg")
    head.expect("conv_cfg", None)
    head.expect("norm_cfg", None)
    head.expect("reg_decoded_bbox", False)
    head.ignore("init_cfg")
    width = head.take("in_channels")
    config = {
        "type": "RetinaNetHead",
        "num_classes": head.take("num_classes"),
        "feat_channels": head.take("feat_channels", 256),
        "stacked_convs": head.take("stacked_convs", 4),
        **anchors(of_type(head.part("anchor_generator", ANCHORS), "AnchorGenerator")),
        **coder(of_type(head.part("bbox_coder", {"type": "DeltaXYWHBBoxCoder"}), "DeltaXYWHBBoxCoder")),
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
    return config, width, config.pop("in_strides")
