"""Mask R-CNN's and Cascade R-CNN's heads as detectron2's lazy configurations have them (`_target_` and arguments)."""

from collections.abc import Sequence
from typing import Any

from densevit.converters.config_spec import REQUIRED, ConfigReader, ConfigSpec, same
from densevit.errors import ConfigError

TRANSFORM = ConfigSpec(
    keys={"weights": ("stds", REQUIRED, lambda weights: tuple(1.0 / weight for weight in weights))},
    ignored="scale_clamp", accepts="Box2BoxTransform", finish=lambda config, _: config["stds"],
)  # fmt: skip
"""Standard deviations of the deltas, of which it has the inverses."""


def _finish_matcher(config: dict[str, Any], reader: ConfigReader) -> None:
    thresholds, labels = list(reader.pop("thresholds")), list(reader.pop("labels"))
    if labels != ([0, 1] if len(thresholds) == 1 else [0, -1, 1]):
        raise ConfigError(f"{reader.where}.labels are {labels}; densevit has [0, 1] or [0, -1, 1] there.")
    config |= {"pos_iou": thresholds[-1], "neg_iou": thresholds[0]}


MATCHER = ConfigSpec(
    keys={"allow_low_quality_matches": ("match_low_quality", False)},
    constants={"min_pos_iou": 0.0, "allow_override": False}, accepts="Matcher", finish=_finish_matcher,
)  # fmt: skip
"""Arguments of `ops.matching.match_by_iou`."""


def _width(dims: Any) -> tuple[int, int]:
    """The width and the number of layers that have one width."""
    if len(set(dims)) > 1:
        raise ValueError("densevit has layers of one width.")
    return (next(iter(dims), 0), len(dims))


def _weights(*names: str) -> Any:
    """Loss weights by these names, of one number or a dict."""
    return lambda given: [given.get(name, 1.0) for name in names] if isinstance(given, dict) else [given] * len(names)


def _finish_anchors(config: dict[str, Any], reader: ConfigReader) -> None:
    strides, sizes, ratios = config["strides"], reader.pop("sizes"), reader.pop("aspect_ratios")
    scales = {tuple(size / stride for size in given) for given, stride in zip(sizes, strides, strict=True)}
    ratios = ratios[0] if isinstance(ratios[0], Sequence) and len(ratios) == 1 else ratios
    if len(scales) != 1 or any(isinstance(ratio, Sequence) for ratio in ratios):
        raise ConfigError(f"{reader.where} has other anchors from level to level; densevit has the same, in strides.")
    config |= {"scales": scales.pop(), "ratios": tuple(ratios)}


def _finish_rpn(config: dict[str, Any], reader: ConfigReader) -> None:
    head = config["head"]
    dims = [head["in_channels"] if dim == -1 else dim for dim in head["dims"]]
    if head["num_anchors"] != len(config["ratios"]) * len(config["scales"]):
        raise ConfigError(f"{reader.where}.head.num_anchors is not the number of anchors that its generator makes.")
    if len(set(dims)) != 1:
        raise ConfigError(f"{reader.where}.head.conv_dims are {dims}; densevit's RPN has convolutions of one width.")
    config |= {"feat_channels": dims[0], "num_convs": len(dims)}
    config["class_loss_weight"], config["box_loss_weight"] = config.pop("weights")
    config["assign"]["in_padding"] = True
    both = {key: config.pop(key) for key in ("nms_iou", "min_size")}
    for key, *numbers in zip(("train", "test"), config.pop("before"), config.pop("after"), strict=True):
        config[key] = {"nms_pre": numbers[0], "max_per_image": numbers[1], **both}


ANCHORS = ConfigSpec(
    keys={"strides": ("strides", REQUIRED, tuple)}, fixed={"offset": 0.0}, accepts="DefaultAnchorGenerator",
    finish=_finish_anchors,
)  # fmt: skip
RPN_HEAD = ConfigSpec(
    keys={"in_channels": "in_channels", "conv_dims": ("dims", [-1]), "num_anchors": "num_anchors"},
    fixed={"box_dim": 4}, accepts="StandardRPNHead",
)  # fmt: skip
RPN = ConfigSpec(
    keys={
        "head": ("head", REQUIRED, RPN_HEAD), "anchor_generator": (None, REQUIRED, ANCHORS),
        "box2box_transform": ("target_stds", REQUIRED, TRANSFORM), **same(smooth_l1_beta=0.0),
        "loss_weight": ("weights", 1.0, _weights("loss_rpn_cls", "loss_rpn_loc")),
        "anchor_matcher": ("assign", REQUIRED, MATCHER), "batch_size_per_image": "sample.num",
        "positive_fraction": "sample.pos_fraction", "pre_nms_topk": "before", "post_nms_topk": "after",
        "nms_thresh": ("nms_iou", 0.7), "min_box_size": ("min_size", 0.0),
    },
    constants={"limit_shrink": False, "divisor": "quota"},
    fixed={"box_reg_loss_type": "smooth_l1", "anchor_boundary_thresh": -1.0}, ignored="in_features", accepts="RPN",
    finish=_finish_rpn,
)  # fmt: skip


POOLER = ConfigSpec(
    keys={
        "scales": ("levels", REQUIRED, tuple), "output_size": "size", "sampling_ratio": "sampling_ratio",
        "pooler_type": ("aligned", REQUIRED, {"ROIAlign": False, "ROIAlignV2": True}),
    },
    constants={"level_rule": "canonical"}, fixed={"canonical_box_size": 224, "canonical_level": 4}, accepts="ROIPooler",
)  # fmt: skip
NORM = {"conv_norm": ("norm", "", {"": None, None: None, "LN": "LN"})}
BOX = ConfigSpec(
    keys={**NORM, "conv_dims": ("convs", REQUIRED, _width), "fc_dims": ("fcs", REQUIRED, _width)},
    ignored="input_shape", accepts="FastRCNNConvFCHead",
)  # fmt: skip
PREDICTOR = ConfigSpec(
    keys={
        "num_classes": "num_classes", "cls_agnostic_bbox_reg": ("class_agnostic", False),
        "box2box_transform": ("target_stds", REQUIRED, TRANSFORM), **same(smooth_l1_beta=0.0),
        "loss_weight": ("weights", 1.0, _weights("loss_cls", "loss_box_reg")),
        "test_score_thresh": ("test.score_thr", 0.0), "test_nms_thresh": ("test.nms_iou", 0.5),
        "test_topk_per_image": ("test.max_per_image", 100),
    },
    constants={"limit_shrink": False, "test": {"min_size": 0.0}},
    fixed={"box_reg_loss_type": "smooth_l1", "use_fed_loss": False, "use_sigmoid_ce": False},
    ignored="input_shape get_fed_loss_cls_weights fed_loss_num_classes", accepts="FastRCNNOutputLayers",
)  # fmt: skip
MASK = ConfigSpec(
    keys={
        **NORM, "num_classes": "num_classes", "conv_dims": ("dims", REQUIRED, _width),
        "cls_agnostic_mask": ("class_agnostic", False), **same(loss_weight=1.0),
    },
    ignored="input_shape vis_period", accepts="MaskRCNNConvUpsampleHead",
)  # fmt: skip


def _pooling(reader: ConfigReader, strides: tuple[int, ...]) -> dict[str, Any]:
    config = POOLER(reader)
    scales = config["levels"]
    if tuple(1.0 / scale for scale in scales) != strides[: len(scales)]:
        raise ConfigError(f"{reader.where}.scales are {scales}, but the maps have strides {strides}.")
    return config | {"levels": len(scales)}


def _of_classes(spec: ConfigSpec, reader: ConfigReader, classes: int) -> dict[str, Any]:
    config = spec(reader)
    if (stated := config.pop("num_classes")) != classes:
        raise ConfigError(f"{reader.where}.num_classes is {stated}, but roi_heads have {classes}.")
    return config


def _box(head: ConfigReader, predictor: ConfigReader, matcher: ConfigReader, classes: int) -> dict[str, Any]:
    config = BOX(head) | _of_classes(PREDICTOR, predictor, classes) | {"assign": MATCHER(matcher)}
    width, config["num_convs"] = config.pop("convs")
    config["fc_channels"], config["num_fcs"] = config.pop("fcs")
    config["class_loss_weight"], config["box_loss_weight"] = config.pop("weights")
    return config | ({"conv_channels": width} if width else {})


def from_detectron2(model: ConfigReader) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of GeneralizedRCNN: proposal_generator and roi_heads.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    rpn = RPN(model.part("proposal_generator"))
    width, strides = rpn.pop("head")["in_channels"], rpn.pop("strides")
    heads = model.part("roi_heads").of_type("StandardROIHeads", "CascadeROIHeads")
    classes = heads.pop("num_classes")
    sample = {"num": heads.pop("batch_size_per_image"), "pos_fraction": heads.pop("positive_fraction")}
    sample["add_gt_as_proposals"] = heads.pop("proposal_append_gt", True)
    heads.require("train_on_pred_boxes", False)
    for key in ("keypoint_in_features", "keypoint_pooler", "keypoint_head"):
        heads.require(key, None)
    for key in ("box_in_features", "mask_in_features"):
        features = list(heads.pop(key))
        if features != [f"p{2 + i}" for i in range(len(features))]:
            raise ConfigError(f"{heads.where}.{key} are {features}; densevit reads the finest maps, p2, p3, ...")
    pooling = _pooling(heads.part("box_pooler"), strides)
    reader = heads.part("mask_head")
    mask = _of_classes(MASK, reader, classes) | {"pooling": _pooling(heads.part("mask_pooler"), strides)}
    mask["channels"], layers = mask.pop("dims")
    mask["num_convs"] = layers - 1  # the last one up-samples
    config: dict[str, Any] = {"num_classes": classes, "rpn": rpn, "mask": mask}
    box = {"pooling": pooling, "sample": sample}
    if heads.type == "StandardROIHeads":
        parts = (heads.part(key) for key in ("box_head", "box_predictor", "proposal_matcher"))
        config |= {"type": "MaskRCNNHead", "box": {**box, **_box(*parts, classes)}}
    else:
        each = (heads.parts(key) for key in ("box_heads", "box_predictors", "proposal_matchers"))
        stages = [_box(*parts, classes) for parts in zip(*each, strict=True)]
        config |= {
            "type": "CascadeRCNNHead", "box": box, "stages": stages, "stage_weights": (1.0,) * len(stages),
            "mask_each_stage": False, "average": "probabilities", "resample": False, "scale_gradients": True,
        }  # fmt: skip
    heads.finish()
    return config, width, strides
