"""Mask R-CNN's and Cascade R-CNN's heads as mmdetection configures them (2.x and 3.x alike)."""

from collections.abc import Mapping, Sequence
from typing import Any

from densevit.converters.config_spec import REQUIRED, ConfigReader, ConfigSpec, UnsupportedModelError, must_be
from densevit.converters.openmmlab import (
    ANCHORS,
    ASSIGNER,
    BATCH_NORM,
    CODER,
    NMS,
    NO_CONVS,
    PLAIN_CODER,
    SMOOTH_L1,
    TEST,
    TRAINED,
    cross_entropy,
)  # fmt: skip
from densevit.errors import ConfigError

DEFAULT_ANCHORS = {
    "type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64],
}  # fmt: skip
ROI_CODER = {**PLAIN_CODER, "target_stds": (0.1, 0.1, 0.2, 0.2)}


def _square(size: Any) -> int:
    """One side, also where both are given."""
    sides = size if isinstance(size, (list, tuple)) else (size,)
    if len(set(sides)) != 1:
        raise ValueError("densevit pools squares.")
    return sides[0]


# ---- proposals ---------------------------------------------------------------------------------------


def _octaves(config: dict[str, Any], reader: ConfigReader) -> None:
    if "scales" not in config:
        base, octaves = config.pop("octave_base_scale"), config.pop("scales_per_octave")
        config["scales"] = tuple(base * 2 ** (i / octaves) for i in range(octaves))


RPN = ConfigSpec(
    keys={
        "in_channels": "in_channels", "feat_channels": ("feat_channels", 256), "num_convs": ("num_convs", 1),
        "anchor_generator": (None, DEFAULT_ANCHORS, ANCHORS), "bbox_coder": (None, PLAIN_CODER, CODER),
        "loss_cls": (
            None, {"type": "CrossEntropyLoss", "use_sigmoid": True},
            cross_entropy("class_loss_weight", use_sigmoid=True),
        ),
        "loss_bbox": (None, {"type": "SmoothL1Loss", "beta": 1 / 9}, SMOOTH_L1),
    },
    fixed={**NO_CONVS, "num_classes": 1, "reg_decoded_bbox": False}, ignored=("init_cfg", "train_cfg", "test_cfg"),
    accepts=("RPNHead",), finish=_octaves,
)  # fmt: skip
SAMPLER = ConfigSpec(
    keys={"num": "num", "pos_fraction": "pos_fraction", "add_gt_as_proposals": ("add_gt_as_proposals", True)},
    fixed={"neg_pos_ub": -1},
    accepts=("RandomSampler",),
)
RPN_SAMPLER = ConfigSpec(
    keys={**SAMPLER.keys, "add_gt_as_proposals": (None, True, must_be(False))},
    fixed=SAMPLER.fixed,
    accepts=SAMPLER.accepts,
)
RPN_TRAIN = ConfigSpec(
    keys={
        **TRAINED,
        "assigner": ("assign", REQUIRED, ASSIGNER),
        "allowed_border": ("assign.allowed_border", -1),
        "sampler": ("sample", REQUIRED, RPN_SAMPLER),
    },
    ignored=("debug",),
)


def _older_names(reader: ConfigReader) -> None:
    """Early 2.x's."""
    given = reader.remaining
    if "nms_thr" in given and "nms" not in given:
        given["nms"] = {"iou_threshold": given.pop("nms_thr")}
    if "max_num" in given and "max_per_img" not in given:
        given["max_per_img"] = given.pop("max_num")


PROPOSALS = ConfigSpec(
    keys={
        "nms_pre": ("nms_pre", -1), "nms": ("nms_iou", REQUIRED, NMS), "max_per_img": "max_per_image",
        "min_bbox_size": ("min_size", -1),
    },
    fixed={"nms_across_levels": False}, ignored=("nms_post",), prepare=_older_names,
)  # fmt: skip


# ---- boxes and masks ---------------------------------------------------------------------------------

ROI_ALIGN = ConfigSpec(
    keys={
        "output_size": ("size", REQUIRED, _square), "sampling_ratio": ("sampling_ratio", 0),
        "aligned": ("aligned", True),
    },
    fixed={"pool_mode": "avg"}, ignored=("use_torchvision",), accepts=("RoIAlign",),
)  # fmt: skip
POOLING = ConfigSpec(
    keys={
        "roi_layer": (None, REQUIRED, ROI_ALIGN),
        "finest_scale": ("finest_size", 56, float),
        "featmap_strides": ("levels", REQUIRED, tuple),
    },
    ignored=("out_channels", "init_cfg"),
    accepts=("SingleRoIExtractor",),
)


def _pooling(reader: ConfigReader, strides: tuple[int, ...]) -> dict[str, Any]:
    """SingleRoIExtractor over RoIAlign. strides: of the maps that come."""
    config = POOLING(reader)
    read = config["levels"]
    if read != strides[: len(read)]:
        raise ConfigError(f"{reader.where}.featmap_strides are {read}, but the anchors have strides {strides}.")
    return config | {"levels": len(read)}


GIOU = ConfigSpec(
    keys={"loss_weight": ("box_loss_weight", 1.0)},
    constants={"box_loss": "giou"},
    fixed={"eps": 1e-6, "reduction": "mean"},
)
LAYERS = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}


def _finish_box(config: dict[str, Any], head: ConfigReader) -> None:
    convs, fcs = LAYERS.get(head.type, (None, None))
    if convs is None:
        convs, fcs = head.pop("num_shared_convs", 0), head.pop("num_shared_fcs", 0)
        for key in ("num_cls_convs", "num_cls_fcs", "num_reg_convs", "num_reg_fcs"):
            head.require(key, 0)
    config |= {"num_convs": convs, "num_fcs": fcs}
    loss = head.part("loss_bbox", {"type": "SmoothL1Loss"})
    if loss.type == "GIoULoss" and head.pop("reg_decoded_bbox", False) is not True:
        raise ConfigError(f"{head.where}.reg_decoded_bbox is not True, which GIoULoss needs.")
    head.require("reg_decoded_bbox", False)
    config |= GIOU(loss) if loss.type == "GIoULoss" else SMOOTH_L1(loss)


BOX = ConfigSpec(
    keys={
        "fc_out_channels": ("fc_channels", 1024), "conv_out_channels": ("conv_channels", 256),
        "norm_cfg": ("norm", None, BATCH_NORM), "reg_class_agnostic": ("class_agnostic", False),
        "bbox_coder": (None, ROI_CODER, CODER),
        "loss_cls": (None, {"type": "CrossEntropyLoss"}, cross_entropy("class_loss_weight")),
        "roi_feat_size": ("size", 7), "num_classes": ("num_classes", 80),
    },
    fixed={
        "with_avg_pool": False, "with_cls": True, "with_reg": True, "conv_cfg": None,
        "reg_predictor_cfg": {"type": "Linear"}, "cls_predictor_cfg": {"type": "Linear"},
    },
    ignored=("init_cfg", "in_channels", "predict_box_type"), accepts=(*LAYERS, "ConvFCBBoxHead"), finish=_finish_box,
)  # fmt: skip
MASK = ConfigSpec(
    keys={
        "num_convs": ("num_convs", 4), "conv_out_channels": ("channels", 256), "norm_cfg": ("norm", None, BATCH_NORM),
        "class_agnostic": ("class_agnostic", False),
        "loss_mask": (
            None, {"type": "CrossEntropyLoss", "use_mask": True}, cross_entropy("loss_weight", use_mask=True),
        ),
        "num_classes": ("num_classes", 80),
    },
    fixed={
        "conv_kernel_size": 3, "upsample_cfg": {"type": "deconv", "scale_factor": 2}, "predictor_cfg": {"type": "Conv"},
        "conv_cfg": None,
    },
    ignored=("init_cfg", "in_channels", "roi_feat_size"), accepts=("FCNMaskHead",),
)  # fmt: skip
TRAIN = ConfigSpec(
    keys={
        **TRAINED, "assigner": ("assign", REQUIRED, ASSIGNER), "sampler": ("sample", REQUIRED, SAMPLER),
        "mask_size": ("mask_size", 28, _square),
    },
    fixed={"soft_mask_target": False}, ignored=("debug",),
)  # fmt: skip
"""A stage's part of train_cfg."""
TEST_CONFIG = ConfigSpec(keys={**TEST, "score_thr": "score_thr", "mask_thr_binary": "mask_threshold"})
"""The second stage's part of test_cfg, with the threshold of masks."""


def _box(head: ConfigReader, pooling: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The box part of one of the shared heads, and the number of classes."""
    config = BOX(head)
    if config.pop("size") != pooling["size"]:
        raise ConfigError(f"{head.where}.roi_feat_size is not what its RoI extractor gives, {pooling['size']}.")
    classes = config.pop("num_classes")
    return {"pooling": pooling, **config}, classes


def _mask(head: ConfigReader, pooling: dict[str, Any], classes: int) -> dict[str, Any]:
    config = MASK(head)
    if (stated := config.pop("num_classes")) != classes:
        raise ConfigError(f"{head.where}.num_classes is {stated}, but the boxes have {classes} classes.")
    return {"pooling": pooling, **config}


def _train(options: ConfigReader, mask: Mapping[str, Any]) -> dict[str, Any]:
    config = TRAIN(options)
    if (size := config.pop("mask_size")) != 2 * mask["pooling"]["size"]:
        raise ConfigError(f"{options.where}.mask_size is {size}; densevit has the size of the predicted masks there.")
    return config


# ---- heads -------------------------------------------------------------------------------------------


def from_mmdet(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of MaskRCNN or CascadeRCNN: rpn_head, roi_head, train_cfg and test_cfg of the detector.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    none = ConfigReader({}, model.where)
    train, test = (model.optional(key) or none for key in ("train_cfg", "test_cfg"))
    rpn = RPN(model.part("rpn_head"))
    width, strides = rpn.pop("in_channels"), rpn.pop("in_strides")
    options = train.optional("rpn")
    rpn |= {} if options is None else RPN_TRAIN(options)
    proposals = {"train": train.optional("rpn_proposal"), "test": test.optional("rpn")}
    rpn |= {key: PROPOSALS(given) for key, given in proposals.items() if given is not None}
    if "test" in rpn:  # as mmdetection does
        rpn.setdefault("train", rpn["test"])
    cascade = model.type == "CascadeRCNN"
    head = model.part("roi_head").of_type("CascadeRoIHead" if cascade else "StandardRoIHead")
    head.require("shared_head", None)
    head.ignore("init_cfg", "pretrained", "train_cfg", "test_cfg")  # the detector gives its own
    regions = _cascade(head, train, test, strides) if cascade else _standard(head, train, test, strides)
    for reader in (head, train, test):
        reader.finish()
    return {**regions, "rpn": rpn}, width, strides


def _standard(head: ConfigReader, train: ConfigReader, test: ConfigReader, strides: tuple[int, ...]) -> dict[str, Any]:
    """StandardRoIHead."""
    box, classes = _box(head.part("bbox_head"), _pooling(head.part("bbox_roi_extractor"), strides))
    mask = _mask(head.part("mask_head"), _pooling(head.part("mask_roi_extractor"), strides), classes)
    options = train.optional("rcnn")
    box |= {} if options is None else _train(options, mask)
    options = test.optional("rcnn")
    if options is not None:
        box["test"] = TEST_CONFIG(options)
        mask["threshold"] = box["test"].pop("mask_threshold")
    return {"type": "MaskRCNNHead", "num_classes": classes, "box": box, "mask": mask}


def _cascade(head: ConfigReader, train: ConfigReader, test: ConfigReader, strides: tuple[int, ...]) -> dict[str, Any]:
    """CascadeRoIHead."""
    number, weights = head.pop("num_stages"), tuple(head.pop("stage_loss_weights"))
    boxes = _each(head, "bbox_head", number)
    if boxes is None or len(weights) != number:
        raise ConfigError(f"{head.where} has num_stages {number}, but not as many bbox_head and stage_loss_weights.")
    pools, mask_pools = (
        [_pooling(part, strides) for part in _each(head, key, number) or ()]
        for key in ("bbox_roi_extractor", "mask_roi_extractor")
    )
    read = [_box(part, pool) for part, pool in zip(boxes, pools, strict=True)]
    stages, classes = [config for config, _ in read], read[0][1]
    parts = _each(head, "mask_head", number) or ()
    masks = [_mask(part, pool, classes) for part, pool in zip(parts, mask_pools, strict=True)]
    if train.remaining.get("rcnn") is not None:
        options = train.parts("rcnn")
        if len(options) != number:
            raise ConfigError(f"{train.where}.rcnn has {len(options)} stages, but {head.where} has {number}.")
        for stage, mask, option in zip(stages, masks, options, strict=True):
            stage |= _train(option, mask)
    train.ignore("rcnn")
    options = test.optional("rcnn")
    if options is not None:
        stages[-1]["test"] = TEST_CONFIG(options)
        threshold = stages[-1]["test"].pop("mask_threshold")
        masks = [{**mask, "threshold": threshold} for mask in masks]
    if any(mask != masks[0] for mask in masks):
        raise ConfigError(
            f"{head.where}.mask_head differs from stage to stage; densevit has one configuration for all."
        )
    return {
        "type": "CascadeRCNNHead",
        "num_classes": classes,
        "stages": stages,
        "stage_weights": weights,
        "mask": masks[0],
    }


def _each(head: ConfigReader, key: str, number: int) -> list[ConfigReader] | None:
    """The options of every stage, whether stated once for all or stage by stage; None where the number is wrong."""
    given = head.remaining.get(key)
    if isinstance(given, Mapping):
        given = head.pop(key)
        return [ConfigReader(given, f"{head.where}.{key}") for _ in range(number)]
    if not isinstance(given, Sequence):
        raise UnsupportedModelError(f"{head.where}.{key} is {given!r}; densevit's cascade has boxes and masks.")
    parts = head.parts(key)
    return parts if len(parts) == number else None
