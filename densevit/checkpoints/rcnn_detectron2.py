"""Mask R-CNN's and Cascade R-CNN's heads as detectron2's lazy configurations state them (`_target_` and arguments)."""

from collections.abc import Sequence
from typing import Any

from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

NORMS = {"": None, None: None, "LN": "LN"}


def from_detectron2(model: Settings) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of GeneralizedRCNN: proposal_generator and roi_heads.

    Returns:
        Our configuration, the channels of the maps it is for, and their strides.
    """
    rpn, width, strides = _rpn(_of_type(model.part("proposal_generator"), "RPN"))
    heads = _of_type(model.part("roi_heads"), "StandardROIHeads", "CascadeROIHeads")
    classes = heads.take("num_classes")
    sample = {"num": heads.take("batch_size_per_image"), "pos_fraction": heads.take("positive_fraction")}
    sample["add_truth"] = heads.take("proposal_append_gt", True)
    heads.expect("train_on_pred_boxes", False)
    for key in ("keypoint_in_features", "keypoint_pooler", "keypoint_head"):
        heads.expect(key, None)
    for key in ("box_in_features", "mask_in_features"):
        features = list(heads.take(key))
        if features != [f"p{2 + i}" for i in range(len(features))]:
            raise ConfigError(f"{heads.where}.{key} are {features}; densevit reads the finest maps, p2, p3, ...")
    box_pooling = _pooling(heads.part("box_pooler"), strides)
    mask = _mask(heads.part("mask_head"), _pooling(heads.part("mask_pooler"), strides), classes)
    config: dict[str, Any] = {"num_classes": classes, "rpn": rpn, "mask": mask}
    if heads.type == "StandardROIHeads":
        box = _box(heads.part("box_head"), heads.part("box_predictor"), classes)
        assign = _matcher(heads.part("proposal_matcher"))
        config |= {"type": "MaskRCNNHead", "box": {**box, "pooling": box_pooling, "assign": assign, "sample": sample}}
    else:
        stages = [
            {**_box(box, predictor, classes), "assign": _matcher(matcher)}
            for box, predictor, matcher in zip(
                _parts(heads, "box_heads"),
                _parts(heads, "box_predictors"),
                _parts(heads, "proposal_matchers"),
                strict=True,
            )
        ]
        config |= {
            "type": "CascadeHead",
            "box": {"pooling": box_pooling, "sample": sample},
            "stages": stages,
            "stage_weights": (1.0,) * len(stages),
            "mask_each_stage": False,
            "average": "probabilities",
            "resample": False,
            "scale_gradients": True,
        }
    heads.done()
    return config, width, strides


def _of_type(settings: Settings, *names: str) -> Settings:
    if settings.type not in names:
        raise NotBuilt(f"{settings.where}._target_ is {settings.type!r}; densevit has {' or '.join(names)} there.")
    return settings


def _parts(settings: Settings, key: str) -> list[Settings]:
    return [Settings(part, f"{settings.where}.{key}[{i}]") for i, part in enumerate(settings.take(key))]


def _rpn(settings: Settings) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    head = _of_type(settings.part("head"), "StandardRPNHead")
    width, dims = head.take("in_channels"), list(head.take("conv_dims", [-1]))
    head.expect("box_dim", 4)
    dims = [width if dim == -1 else dim for dim in dims]
    anchors = _of_type(settings.part("anchor_generator"), "DefaultAnchorGenerator")
    strides, sizes = tuple(anchors.take("strides")), anchors.take("sizes")
    scales = {tuple(size / stride for size in given) for given, stride in zip(sizes, strides, strict=True)}
    ratios = anchors.take("aspect_ratios")
    ratios = ratios[0] if isinstance(ratios[0], Sequence) and len(ratios) == 1 else ratios
    if len(scales) != 1 or any(isinstance(ratio, Sequence) for ratio in ratios):
        raise ConfigError(f"{anchors.where} has other anchors from level to level; densevit has the same, in strides.")
    anchors.expect("offset", 0.0)
    if head.take("num_anchors") != len(ratios) * len(next(iter(scales))):
        raise ConfigError(f"{head.where}.num_anchors is not the number of anchors that {anchors.where} makes.")
    if len(set(dims)) != 1:
        raise ConfigError(f"{head.where}.conv_dims are {dims}; densevit's RPN has convolutions of one width.")
    weights = settings.take("loss_weight", 1.0)
    if not isinstance(weights, dict):
        weights = {"loss_rpn_cls": weights, "loss_rpn_loc": weights}
    settings.expect("box_reg_loss_type", "smooth_l1")
    settings.expect("anchor_boundary_thresh", -1.0)
    settings.ignore("in_features")
    before, after = settings.take("pre_nms_topk"), settings.take("post_nms_topk")
    both = {"nms_iou": settings.take("nms_thresh", 0.7), "min_size": settings.take("min_box_size", 0.0)}
    config = {
        "feat_channels": dims[0],
        "num_convs": len(dims),
        "scales": next(iter(scales)),
        "ratios": tuple(ratios),
        "target_stds": _stds(settings.part("box2box_transform")),
        "limit_shrink": False,
        "smooth_l1_beta": settings.take("smooth_l1_beta", 0.0),
        "class_loss_weight": weights.get("loss_rpn_cls", 1.0),
        "box_loss_weight": weights.get("loss_rpn_loc", 1.0),
        "assign": {**_matcher(settings.part("anchor_matcher")), "in_padding": True},
        "sample": {"num": settings.take("batch_size_per_image"), "pos_fraction": settings.take("positive_fraction")},
        "divisor": "quota",
        "train": {"nms_pre": before[0], "max_per_image": after[0], **both},
        "test": {"nms_pre": before[1], "max_per_image": after[1], **both},
    }
    for part in (head, anchors, settings):
        part.done()
    return config, width, strides


def _stds(settings: Settings) -> tuple[float, ...]:
    """Standard deviations of the deltas of Box2BoxTransform, which states their inverses."""
    _of_type(settings, "Box2BoxTransform")
    settings.ignore("scale_clamp")
    weights = settings.take("weights")
    settings.done()
    return tuple(1.0 / weight for weight in weights)


def _matcher(settings: Settings) -> dict[str, Any]:
    """Matcher, as arguments of `ops.matching.match_by_iou`."""
    _of_type(settings, "Matcher")
    thresholds, labels = list(settings.take("thresholds")), list(settings.take("labels"))
    if labels != ([0, 1] if len(thresholds) == 1 else [0, -1, 1]):
        raise ConfigError(f"{settings.where}.labels are {labels}; densevit has [0, 1] or [0, -1, 1] there.")
    low_quality = settings.take("allow_low_quality_matches", False)
    settings.done()
    return {
        "pos_iou": thresholds[-1],
        "neg_iou": thresholds[0],
        "min_pos_iou": 0.0,
        "match_low_quality": low_quality,
        "best_taken_over": False,
    }


def _pooling(settings: Settings, strides: tuple[int, ...]) -> dict[str, Any]:
    """ROIPooler."""
    _of_type(settings, "ROIPooler")
    kind = settings.take("pooler_type")
    if kind not in ("ROIAlign", "ROIAlignV2"):
        raise ConfigError(f"{settings.where}.pooler_type is {kind!r}; densevit has ROIAlign and ROIAlignV2.")
    settings.expect("canonical_box_size", 224)
    settings.expect("canonical_level", 4)
    scales = tuple(settings.take("scales"))
    if tuple(1.0 / scale for scale in scales) != strides[: len(scales)]:
        raise ConfigError(f"{settings.where}.scales are {scales}, but the maps have strides {strides}.")
    config = {
        "levels": len(scales),
        "size": settings.take("output_size"),
        "sampling_ratio": settings.take("sampling_ratio"),
        "aligned": kind == "ROIAlignV2",
        "level_rule": "canonical",
    }
    settings.done()
    return config


def _norm(settings: Settings) -> str | None:
    norm = settings.take("conv_norm", "")
    if norm not in NORMS:
        raise ConfigError(f"{settings.where}.conv_norm is {norm!r}; densevit has '' and 'LN' there.")
    return NORMS[norm]


def _box(head: Settings, predictor: Settings, classes: int) -> dict[str, Any]:
    """FastRCNNConvFCHead and FastRCNNOutputLayers."""
    _of_type(head, "FastRCNNConvFCHead")
    _of_type(predictor, "FastRCNNOutputLayers")
    head.ignore("input_shape")
    predictor.ignore("input_shape")
    convs, fcs = list(head.take("conv_dims")), list(head.take("fc_dims"))
    if len(set(convs)) > 1 or len(set(fcs)) != 1:
        raise ConfigError(f"{head.where} has conv_dims {convs} and fc_dims {fcs}; densevit has layers of one width.")
    if (stated := predictor.take("num_classes")) != classes:
        raise ConfigError(f"{predictor.where}.num_classes is {stated}, but roi_heads have {classes}.")
    predictor.expect("box_reg_loss_type", "smooth_l1")
    predictor.expect("use_fed_loss", False)
    predictor.expect("use_sigmoid_ce", False)
    predictor.ignore("get_fed_loss_cls_weights", "fed_loss_num_classes")
    weights = predictor.take("loss_weight", 1.0)
    if not isinstance(weights, dict):
        weights = {"loss_cls": weights, "loss_box_reg": weights}
    config = {
        "num_convs": len(convs),
        "norm": _norm(head),
        "num_fcs": len(fcs),
        "fc_channels": fcs[0],
        "class_agnostic": predictor.take("cls_agnostic_bbox_reg", False),
        "target_stds": _stds(predictor.part("box2box_transform")),
        "limit_shrink": False,
        "smooth_l1_beta": predictor.take("smooth_l1_beta", 0.0),
        "class_loss_weight": weights.get("loss_cls", 1.0),
        "box_loss_weight": weights.get("loss_box_reg", 1.0),
        "test": {
            "score_thr": predictor.take("test_score_thresh", 0.0),
            "nms_iou": predictor.take("test_nms_thresh", 0.5),
            "max_per_image": predictor.take("test_topk_per_image", 100),
            "min_size": 0.0,
        },
    }
    if convs:
        config["conv_channels"] = convs[0]
    head.done()
    predictor.done()
    return config


def _mask(head: Settings, pooling: dict[str, Any], classes: int) -> dict[str, Any]:
    """MaskRCNNConvUpsampleHead; the last of its conv_dims is the up-sampling's."""
    _of_type(head, "MaskRCNNConvUpsampleHead")
    head.ignore("input_shape", "vis_period")
    if (stated := head.take("num_classes")) != classes:
        raise ConfigError(f"{head.where}.num_classes is {stated}, but roi_heads have {classes}.")
    dims = list(head.take("conv_dims"))
    if len(set(dims)) != 1:
        raise ConfigError(f"{head.where}.conv_dims are {dims}; densevit has layers of one width.")
    config = {
        "pooling": pooling,
        "num_convs": len(dims) - 1,
        "channels": dims[0],
        "norm": _norm(head),
        "class_agnostic": head.take("cls_agnostic_mask", False),
        "loss_weight": head.take("loss_weight", 1.0),
    }
    head.done()
    return config
