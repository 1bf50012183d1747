"""RetinaNet's head: mmdetection (2.x and 3.x alike)."""

from densevit.converters.config_spec import Architecture, ConfigSpec, must_be, same
from densevit.converters.key_mapping import rules
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
    fixed={"reduction": "mean", "activated": False}, accepts="FocalLoss",
)  # fmt: skip
HEAD = ConfigSpec(
    "RetinaNetHead",
    keys={
        "in_channels": "in_channels", "num_classes": "num_classes", **same(feat_channels=256, stacked_convs=4),
        "anchor_generator": (None, DEFAULT_ANCHORS, ANCHORS), "bbox_coder": (None, PLAIN_CODER, CODER),
        "loss_cls": (None, {"type": "CrossEntropyLoss"}, FOCAL),
        "loss_bbox": (None, {"type": "SmoothL1Loss", "beta": 1 / 9}, SMOOTH_L1),
    },
    fixed={**NO_CONVS, "reg_decoded_bbox": False}, ignored="init_cfg", accepts="RetinaHead",
)  # fmt: skip
TRAIN = ConfigSpec(
    keys={
        **TRAINED, "sampler": (None, None, ConfigSpec(accepts="PseudoSampler")), "assigner": (None, None, ASSIGNER),
        **same(allowed_border=-1),
    },
    ignored="debug",
)  # fmt: skip
TEST_CONFIG = ConfigSpec(keys={**TEST, **same(nms_pre=-1), "min_bbox_size": ("min_size", -1)})
LAYERS = "cls_convs.{}.conv.->cls_convs.{}. reg_convs.{}.conv.->reg_convs.{}. retina_cls. retina_reg."
ARCHITECTURES = (Architecture("RetinaNetHead", {"mmdet": rules(LAYERS)}),)
