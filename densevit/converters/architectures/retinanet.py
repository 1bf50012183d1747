"""RetinaNet's head: mmdetection (2.x and 3.x alike)."""

from typing import Any

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ConfigReader, ConfigSpec, must_be
from densevit.converters.key_mapping import KeyRule, same
from densevit.converters.openmmlab import ANCHORS, ASSIGNER, CODER, NO_CONVS, PLAIN_CODER, SMOOTH_L1, TEST, TRAINED

DEFAULT_ANCHORS = {
    "type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3, "ratios": [0.5, 1.0, 2.0],
    "strides": [8, 16, 32, 64, 128],
}  # fmt: skip
FOCAL = ConfigSpec(
    keys={
        "use_sigmoid": (None, False, must_be(True)),  # otherwise it has a background channel and a softmax
        "gamma": ("focal_gamma", 2.0), "alpha": ("focal_alpha", 0.25), "loss_weight": ("class_loss_weight", 1.0),
    },
    fixed={"reduction": "mean", "activated": False}, accepts=("FocalLoss",),
)  # fmt: skip
HEAD = ConfigSpec(
    "RetinaNetHead",
    keys={
        "in_channels": "in_channels", "num_classes": "num_classes", "feat_channels": ("feat_channels", 256),
        "stacked_convs": ("stacked_convs", 4), "anchor_generator": (None, DEFAULT_ANCHORS, ANCHORS),
        "bbox_coder": (None, PLAIN_CODER, CODER), "loss_cls": (None, {"type": "CrossEntropyLoss"}, FOCAL),
        "loss_bbox": (None, {"type": "SmoothL1Loss", "beta": 1 / 9}, SMOOTH_L1),
    },
    fixed={**NO_CONVS, "reg_decoded_bbox": False}, ignored=("init_cfg",), accepts=("RetinaHead",),
)  # fmt: skip
PSEUDO = ConfigSpec(accepts=("PseudoSampler",))
TRAIN = ConfigSpec(
    keys={
        **TRAINED,
        "sampler": (None, None, PSEUDO),
        "assigner": (None, None, ASSIGNER),
        "allowed_border": ("allowed_border", -1),
    },
    ignored=("debug",),
)
TEST_CONFIG = ConfigSpec(keys={**TEST, "nms_pre": ("nms_pre", -1), "min_bbox_size": ("min_size", -1)})


def from_mmdet(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of RetinaNet: bbox_head, train_cfg and test_cfg of the detector.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    head = model.part("bbox_head")
    train, test = (model.optional(key) or head.optional(key) for key in ("train_cfg", "test_cfg"))
    head.ignore("train_cfg", "test_cfg")
    config = HEAD(head)
    config |= {} if train is None else {"assign": TRAIN(train)}
    config |= {} if test is None else {"test": TEST_CONFIG(test)}
    return config, config.pop("in_channels"), config.pop("in_strides")


ARCHITECTURE = Architecture(
    "RetinaNetHead",
    keys={
        "mmdet": [
            KeyRule("cls_convs.{}.conv.*", "cls_convs.{}.*"),
            KeyRule("reg_convs.{}.conv.*", "reg_convs.{}.*"),
            *same("retina_cls.*", "retina_reg.*"),
        ]
    },
)
