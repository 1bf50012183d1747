"""Mask R-CNN's and Cascade R-CNN's heads as mmdetection configures them (2.x and 3.x alike)."""

from collections.abc import Mapping, Sequence
from typing import Any

from densevit.converters.config_spec import REQUIRED, ConfigReader, ConfigSpec, UnsupportedModelError, must_be, same
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
CROSS_ENTROPY, SIGMOID = {"type": "CrossEntropyLoss"}, {"type": "CrossEntropyLoss", "use_sigmoid": True}


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
        "in_channels": "in_channels", **same(feat_channels=256, num_convs=1),
        "anchor_generator": (None, DEFAULT_ANCHORS, ANCHORS), "bbox_coder": (None, PLAIN_CODER, CODER),
        "loss_cls": (None, SIGMOID, cross_entropy("class_loss_weight", use_sigmoid=True)),
        "loss_bbox": (None, {"type": "SmoothL1Loss", "beta": 1 / 9}, SMOOTH_L1),
    },
    fixed={**NO_CONVS, "num_classes": 1, "reg_decoded_bbox": False}, ignored="init_cfg train_cfg test_cfg",
    accepts="RPNHead", finish=_octaves,
)  # fmt: skip
SAMPLER = ConfigSpec(
    keys={"num": "num", "pos_fraction": "pos_fraction", "add_gt_as_proposals": ("add_gt_as_proposals", True)},
    fixed={"neg_pos_ub": -1}, accepts="RandomSampler",
)  # fmt: skip
RPN_SAMPLER = SAMPLER.but(keys={"add_gt_as_proposals": (None, True, must_be(False))})
RPN_TRAIN = ConfigSpec(
    keys={
        **TRAINED, "assigner": ("assign", REQUIRED, ASSIGNER), "allowed_border": ("assign.allowed_border", -1),
        "sampler": ("sample", REQUIRED, RPN_SAMPLER),
    },
    ignored="debug",
)  # fmt: skip


def _older_names(reader: ConfigReader) -> None:
    """Early 2.x's."""
    given = reader.remaining
    if "nms_thr" in given and "nms" not in given:
        given["nms"] = {"iou_threshold": given.pop("nms_thr")}
    if "max_num" in given and "max_per_img" not in given:
        given["max_per_img"] = given.pop("max_num")


PROPOSALS = ConfigSpec(
    keys={
        **same(nms_pre=-1), "nms": ("nms_iou", REQUIRED, NMS), "max_per_img": "max_per_image",
        "min_bbox_size": ("min_size", -1),
    },
    fixed={"nms_across_levels": False}, ignored="nms_post", prepare=_older_names,
)  # fmt: skip


# ---- boxes and masks ---------------------------------------------------------------------------------

ROI_ALIGN = ConfigSpec(
    keys={"output_size": ("size", REQUIRED, _square), **same(sampling_ratio=0, aligned=True)},
    fixed={"pool_mode": "avg"}, ignored="use_torchvision", accepts="RoIAlign",
)  # fmt: skip
POOLING = ConfigSpec(
    keys={
        "roi_layer": (None, REQUIRED, ROI_ALIGN), "finest_scale": ("finest_size", 56, float),
        "featmap_strides": ("levels", REQUIRED, tuple),
    },
    ignored="out_channels init_cfg", accepts="SingleRoIExtractor",
)  # fmt: skip
GIOU = ConfigSpec(
    keys={"loss_weight": ("box_loss_weight", 1.0)}, constants={"box_loss": "giou"},
    fixed={"eps": 1e-6, "reduction": "mean"},
)  # fmt: skip
LAYERS = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}


def _finish_box(config: dict[str, Any], head: ConfigReader) -> None:
    convs, fcs = LAYERS.get(head.type, (None, None))
    if convs is None:
        convs, fcs = head.pop("num_shared_convs", 0), head.pop("num_shared_fcs", 0)
        for key in ("num_cls_convs", "num_cls_fcs", "num_reg_convs", "num_reg_fcs"):
            head.require(key, 0)
    loss = head.part("loss_bbox", {"type": "SmoothL1Loss"})
    if loss.type == "GIoULoss" and head.pop("reg_decoded_bbox", False) is not True:
        raise ConfigError(f"{head.where}.reg_decoded_bbox is not True, which GIoULoss needs.")
    head.require("reg_decoded_bbox", False)
    config |= {"num_convs": convs, "num_fcs": fcs, **(GIOU if loss.type == "GIoULoss" else SMOOTH_L1)(loss)}


BOX = ConfigSpec(
    keys={
        "fc_out_channels": ("fc_channels", 1024), "conv_out_channels": ("conv_channels", 256),
        "norm_cfg": ("norm", None, BATCH_NORM), "reg_class_agnostic": ("class_agnostic", False),
        "bbox_coder": (None, {**PLAIN_CODER, "target_stds": (0.1, 0.1, 0.2, 0.2)}, CODER),
        "loss_cls": (None, CROSS_ENTROPY, cross_entropy("class_loss_weight")), "roi_feat_size": ("size", 7),
        **same(num_classes=80),
    },
    fixed={
        **dict.fromkeys(("with_cls", "with_reg"), True), "with_avg_pool": False, "conv_cfg": None,
        "reg_predictor_cfg": {"type": "Linear"}, "cls_predictor_cfg": {"type": "Linear"},
    },
    ignored="init_cfg in_channels predict_box_type", accepts=" ".join((*LAYERS, "ConvFCBBoxHead")), finish=_finish_box,
)  # fmt: skip
MASK = ConfigSpec(
    keys={
        **same(num_convs=4, class_agnostic=False, num_classes=80), "conv_out_channels": ("channels", 256),
        "norm_cfg": ("norm", None, BATCH_NORM),
        "loss_mask": (None, {**CROSS_ENTROPY, "use_mask": True}, cross_entropy("loss_weight", use_mask=True)),
    },
    fixed={
        "conv_kernel_size": 3, "upsample_cfg": {"type": "deconv", "scale_factor": 2}, "predictor_cfg": {"type": "Conv"},
        "conv_cfg": None,
    },
    ignored="init_cfg in_channels roi_feat_size", accepts="FCNMaskHead",
)  # fmt: skip
TRAIN = ConfigSpec(
    keys={
        **TRAINED, "assigner": ("assign", REQUIRED, ASSIGNER), "sampler": ("sample", REQUIRED, SAMPLER),
        "mask_size": ("mask_size", 28, _square),
    },
    fixed={"soft_mask_target": False}, ignored="debug",
)  # fmt: skip
"""A stage's part of train_cfg."""
TEST_CONFIG = ConfigSpec(keys={**TEST, "score_thr": "score_thr", "mask_thr_binary": "mask_threshold"})
"""The second stage's part of test_cfg, with the threshold of masks."""


def _each(head: ConfigReader, key: str, number: int) -> list[ConfigReader]:
    """The options of every stage, whether stated once for all or stage by stage."""
    given = head.pop(key, None)
    if isinstance(given, Mapping):
        return [ConfigReader(given, f"{head.where}.{key}") for _ in range(number)]
    if not isinstance(given, Sequence):
        raise UnsupportedModelError(f"{head.where}.{key} is {given!r}; densevit has boxes and masks there.")
    return [ConfigReader(part, f"{head.where}.{key}[{i}]") for i, part in enumerate(given)] * (len(given) == number)


def from_mmdet(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of MaskRCNN or CascadeRCNN: rpn_head, roi_head, train_cfg and test_cfg of the detector.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    none = ConfigReader({}, model.where)
    train, test = (model.optional(key) or none for key in ("train_cfg", "test_cfg"))
    rpn = RPN(model.part("rpn_head"))
    width, strides = rpn.pop("in_channels"), rpn.pop("in_strides")
    if (options := train.optional("rpn")) is not None:
        rpn |= RPN_TRAIN(options)
    proposals = {"train": train.optional("rpn_proposal"), "test": test.optional("rpn")}
    rpn |= {key: PROPOSALS(given) for key, given in proposals.items() if given is not None}
    if "test" in rpn:  # as mmdetection does
        rpn.setdefault("train", rpn["test"])
    cascade = model.type == "CascadeRCNN"
    head = model.part("roi_head").of_type("CascadeRoIHead" if cascade else "StandardRoIHead")
    head.require("shared_head", None)
    head.ignore("init_cfg", "pretrained", "train_cfg", "test_cfg")  # the detector gives its own
    number, weights = (head.pop("num_stages"), tuple(head.pop("stage_loss_weights"))) if cascade else (1, (1.0,))
    stages, mask, classes = _stages(head, number, strides)
    if len(stages) != number or len(weights) != number:
        raise ConfigError(f"{head.where} has num_stages {number}, but not as many bbox_head and stage_loss_weights.")
    if train.remaining.get("rcnn"):
        options = train.parts("rcnn") if cascade else [train.part("rcnn")]
        if len(options) != number:
            raise ConfigError(f"{train.where}.rcnn has {len(options)} stages, but {head.where} has {number}.")
        for stage, option in zip(stages, options, strict=True):
            stage |= TRAIN(option)
            if (size := stage.pop("mask_size")) != 2 * mask["pooling"]["size"]:
                raise ConfigError(
                    f"{option.where}.mask_size is {size}; densevit has the size of the predicted masks there."
                )
    train.ignore("rcnn")
    if (options := test.optional("rcnn")) is not None:
        stages[-1]["test"] = TEST_CONFIG(options)
        mask["threshold"] = stages[-1]["test"].pop("mask_threshold")
    for reader in (head, train, test):
        reader.finish()
    config: dict[str, Any] = {"num_classes": classes, "mask": mask, "rpn": rpn}
    if cascade:
        return {"type": "CascadeRCNNHead", **config, "stages": stages, "stage_weights": weights}, width, strides
    return {"type": "MaskRCNNHead", **config, "box": stages[0]}, width, strides


def _stages(head: ConfigReader, number: int, strides: tuple[int, ...]) -> tuple[list[dict], dict, int]:
    """Our box part of every stage, the one mask part of all, and the number of classes."""
    (boxes, masks), pools = (_each(head, f"{kind}_head", number) for kind in ("bbox", "mask")), []
    for kind in ("bbox", "mask"):
        pools.append([])
        for reader in _each(head, f"{kind}_roi_extractor", number):
            pool = POOLING(reader)
            if (read := pool["levels"]) != strides[: len(read)]:
                raise ConfigError(f"{reader.where}.featmap_strides are {read}, but the anchors have strides {strides}.")
            pools[-1].append(pool | {"levels": len(read)})
    stages, parts = [], []
    for reader, pool in zip(boxes, pools[0], strict=False):
        stages.append({"pooling": pool, **BOX(reader)})
        if stages[-1].pop("size") != pool["size"]:
            raise ConfigError(f"{reader.where}.roi_feat_size is not what its RoI extractor gives, {pool['size']}.")
    classes = [stage.pop("num_classes") for stage in stages]
    for reader, pool in zip(masks, pools[1], strict=False):
        parts.append({"pooling": pool, **MASK(reader)})
        if (stated := parts[-1].pop("num_classes")) != classes[0]:
            raise ConfigError(f"{reader.where}.num_classes is {stated}, but the boxes have {classes[0]} classes.")
    if any(part != parts[0] for part in parts):
        raise ConfigError(
            f"{head.where}.mask_head differs from stage to stage; densevit has one configuration for all."
        )
    return stages, (parts or [{}])[0], (classes or [0])[0]
