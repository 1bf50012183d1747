"""Mask R-CNN's and Cascade R-CNN's heads as mmdetection configures them (2.x and 3.x alike)."""

from collections.abc import Mapping, Sequence
from typing import Any

from densevit.checkpoints.mmdet_terms import (
    anchors,
    assigner,
    coder,
    cross_entropy,
    nms_iou,
    of_type,
    positive_weight,
    smooth_l1,
)
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

ANCHORS = {
    "type": "AnchorGenerator",
    "scales": [8, 16, 32],
    "ratios": [0.5, 1.0, 2.0],
    "strides": [4, 8, 16, 32, 64],
}
CODER = {"type": "DeltaXYWHBBoxCoder"}
ROI_STDS = (0.1, 0.1, 0.2, 0.2)


def from_mmdet(model: Settings) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """The head of MaskRCNN or CascadeRCNN: rpn_head, roi_head, train_cfg and test_cfg of the detector.

    Returns:
        Our configuration, the channels of the maps it is for, and the strides of its anchors.
    """
    train, test = _optional(model, "train_cfg"), _optional(model, "test_cfg")
    rpn = model.part("rpn_head")
    config, width, strides = _rpn(rpn, train, test)
    head = of_type(model.part("roi_head"), "CascadeRoIHead" if model.type == "CascadeRCNN" else "StandardRoIHead")
    head.expect("shared_head", None)
    head.ignore("init_cfg", "pretrained", "train_cfg", "test_cfg")  # the detector gives its own
    read = _cascade if head.type == "CascadeRoIHead" else _standard
    regions = read(head, train, test, strides)
    head.done()
    for settings in (train, test):
        if settings is not None:
            settings.done()
    return {**regions, "rpn": config}, width, strides


def _optional(settings: Settings, key: str) -> Settings | None:
    """The settings under `key`, None where there are none or it is None."""
    given = settings.take(key, None)
    return None if given is None else Settings(given, f"{settings.where}.{key}")


def _rpn(rpn: Settings, train: Settings | None, test: Settings | None) -> tuple[dict[str, Any], int, tuple[int, ...]]:
    """RPNHead with the parts of train_cfg and test_cfg that are about it."""
    of_type(rpn, "RPNHead")
    rpn.ignore("init_cfg", "train_cfg", "test_cfg")
    rpn.expect("num_classes", 1)
    rpn.expect("reg_decoded_bbox", False)
    for key in ("conv_cfg", "norm_cfg"):
        rpn.expect(key, None)
    width = rpn.take("in_channels")
    config = {"feat_channels": rpn.take("feat_channels", 256), "num_convs": rpn.take("num_convs", 1)}
    grid = anchors(of_type(rpn.part("anchor_generator", ANCHORS), "AnchorGenerator"))
    strides = grid.pop("in_strides")
    if "scales" not in grid:
        base, octaves = grid.pop("octave_base_scale"), grid.pop("scales_per_octave")
        grid["scales"] = tuple(base * 2 ** (i / octaves) for i in range(octaves))
    config |= grid | coder(of_type(rpn.part("bbox_coder", CODER), CODER["type"]))
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": True}
    config["class_loss_weight"] = cross_entropy(rpn.part("loss_cls", loss), use_sigmoid=True)
    loss = {"type": "SmoothL1Loss", "beta": 1 / 9}
    config["smooth_l1_beta"], config["box_loss_weight"] = smooth_l1(rpn.part("loss_bbox", loss))
    rpn.done()
    options = _optional(train, "rpn") if train is not None else None
    if options is not None:
        positive_weight(options)
        border = options.take("allowed_border", -1)
        config["assign"] = {**assigner(options.part("assigner")), "allowed_border": border}
        config["sample"] = _sampler(options.part("sampler"), add_truth=False)
        options.done()
    for key, settings, name in (("train", train, "rpn_proposal"), ("test", test, "rpn")):
        options = _optional(settings, name) if settings is not None else None
        if options is not None:
            config[key] = _proposals(options)
    if "train" not in config and "test" in config:  # as mmdetection does
        config["train"] = config["test"]
    return config, width, strides


def _sampler(settings: Settings, add_truth: bool | None = None) -> dict[str, Any]:
    """RandomSampler. add_truth: what its add_gt_as_proposals has to be."""
    of_type(settings, "RandomSampler")
    settings.expect("neg_pos_ub", -1)
    config = {"num": settings.take("num"), "pos_fraction": settings.take("pos_fraction")}
    if add_truth is None:
        config["add_truth"] = settings.take("add_gt_as_proposals", True)
    elif settings.take("add_gt_as_proposals", True) != add_truth:
        raise ConfigError(f"{settings.where}.add_gt_as_proposals is not {add_truth}, which densevit has there.")
    settings.done()
    return config


def _proposals(settings: Settings) -> dict[str, Any]:
    """Which proposals go on; early 2.x had other names."""
    settings.expect("nms_across_levels", False)
    settings.ignore("nms_post")
    iou = nms_iou(settings.part("nms")) if "nms" in settings.left else settings.take("nms_thr")
    config = {
        "nms_pre": settings.take("nms_pre", -1),
        "nms_iou": iou,
        "max_per_image": settings.take("max_per_img" if "max_per_img" in settings.left else "max_num"),
        "min_size": settings.take("min_bbox_size", -1),
    }
    settings.done()
    return config


def _standard(
    head: Settings, train: Settings | None, test: Settings | None, strides: tuple[int, ...]
) -> dict[str, Any]:
    """StandardRoIHead."""
    box, classes = _box(head.part("bbox_head"), _pooling(head.part("bbox_roi_extractor"), strides))
    mask = _mask(head.part("mask_head"), _pooling(head.part("mask_roi_extractor"), strides), classes)
    options = _optional(train, "rcnn") if train is not None else None
    if options is not None:
        box |= _train(options, mask)
    options = _optional(test, "rcnn") if test is not None else None
    if options is not None:
        box["test"], mask["threshold"] = _test(options)
    return {"type": "MaskRCNNHead", "num_classes": classes, "box": box, "mask": mask}


def _cascade(head: Settings, train: Settings | None, test: Settings | None, strides: tuple[int, ...]) -> dict[str, Any]:
    """CascadeRoIHead."""
    number = head.take("num_stages")
    weights = tuple(head.take("stage_loss_weights"))
    boxes = _each(head, "bbox_head", number)
    if boxes is None or len(weights) != number:
        raise ConfigError(f"{head.where} has num_stages {number}, but not as many bbox_head and stage_loss_weights.")
    pools = [_pooling(part, strides) for part in _each(head, "bbox_roi_extractor", number) or ()]
    mask_pools = [_pooling(part, strides) for part in _each(head, "mask_roi_extractor", number) or ()]
    read = [_box(part, pool) for part, pool in zip(boxes, pools, strict=True)]
    stages, classes = [config for config, _ in read], read[0][1]
    parts = _each(head, "mask_head", number)
    masks = [_mask(part, pool, classes) for part, pool in zip(parts or (), mask_pools, strict=True)]
    options = train.take("rcnn", None) if train is not None else None
    if options is not None:
        if len(options) != number:
            raise ConfigError(f"{train.where}.rcnn has {len(options)} stages, but {head.where} has {number}.")
        for i, (stage, mask) in enumerate(zip(stages, masks, strict=True)):
            stage |= _train(Settings(options[i], f"{train.where}.rcnn[{i}]"), mask)
    options = _optional(test, "rcnn") if test is not None else None
    if options is not None:
        stages[-1]["test"], threshold = _test(options)
        for mask in masks:
            mask["threshold"] = threshold
    if any(mask != masks[0] for mask in masks):
        raise ConfigError(
            f"{head.where}.mask_head differs from stage to stage; densevit has one configuration for all."
        )
    return {
        "type": "CascadeHead",
        "num_classes": classes,
        "stages": stages,
        "stage_weights": weights,
        "mask": masks[0],
    }


def _each(head: Settings, key: str, number: int) -> list[Settings] | None:
    """The settings of every stage, whether stated once for all or stage by stage; None where the number is wrong."""
    given = head.take(key)
    where = f"{head.where}.{key}"
    if isinstance(given, Mapping):
        return [Settings(given, where) for _ in range(number)]
    if not isinstance(given, Sequence):
        raise NotBuilt(f"{where} is {given!r}; densevit's cascade has boxes and masks.")
    return [Settings(part, f"{where}[{i}]") for i, part in enumerate(given)] if len(given) == number else None


def _pooling(settings: Settings, strides: tuple[int, ...]) -> dict[str, Any]:
    """SingleRoIExtractor over RoIAlign. strides: of the maps that come."""
    of_type(settings, "SingleRoIExtractor")
    layer = of_type(settings.part("roi_layer"), "RoIAlign")
    layer.expect("pool_mode", "avg")
    layer.ignore("use_torchvision")
    size = layer.take("output_size")
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ConfigError(f"{layer.where}.output_size is {size}; densevit pools squares.")
        size = size[0]
    config = {
        "size": size,
        "sampling_ratio": layer.take("sampling_ratio", 0),
        "aligned": layer.take("aligned", True),
        "finest_size": float(settings.take("finest_scale", 56)),
    }
    layer.done()
    read = tuple(settings.take("featmap_strides"))
    if read != strides[: len(read)]:
        raise ConfigError(f"{settings.where}.featmap_strides are {read}, but the anchors have strides {strides}.")
    config["levels"] = len(read)
    settings.ignore("out_channels", "init_cfg")
    settings.done()
    return config


def _norm(head: Settings) -> str | None:
    """The norm after each convolution."""
    norm = _optional(head, "norm_cfg")
    if norm is None:
        return None
    of_type(norm, "BN", "SyncBN")
    norm.ignore("requires_grad")
    norm.done()
    return "BN"


def _box(head: Settings, pooling: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The box part of one of mmdetection's shared heads, and the number of classes."""
    of_type(head, "Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead", "ConvFCBBoxHead")
    convs, fcs = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1)}.get(head.type, (None, None))
    if convs is None:
        convs, fcs = head.take("num_shared_convs", 0), head.take("num_shared_fcs", 0)
        for key in ("num_cls_convs", "num_cls_fcs", "num_reg_convs", "num_reg_fcs"):
            head.expect(key, 0)
    head.expect("with_avg_pool", False)
    head.expect("with_cls", True)
    head.expect("with_reg", True)
    head.expect("conv_cfg", None)
    for key in ("reg_predictor_cfg", "cls_predictor_cfg"):
        head.expect(key, {"type": "Linear"})
    head.ignore("init_cfg", "in_channels", "predict_box_type")
    if head.take("roi_feat_size", 7) != pooling["size"]:
        raise ConfigError(f"{head.where}.roi_feat_size is not what its RoI extractor gives, {pooling['size']}.")
    config: dict[str, Any] = {
        "pooling": pooling,
        "num_convs": convs,
        "num_fcs": fcs,
        "fc_channels": head.take("fc_out_channels", 1024),
        "conv_channels": head.take("conv_out_channels", 256),
        "norm": _norm(head),
        "class_agnostic": head.take("reg_class_agnostic", False),
    }
    config |= coder(of_type(head.part("bbox_coder", {**CODER, "target_stds": ROI_STDS}), CODER["type"]))
    config["class_loss_weight"] = cross_entropy(head.part("loss_cls", {"type": "CrossEntropyLoss"}))
    loss = head.part("loss_bbox", {"type": "SmoothL1Loss"})
    if loss.type == "GIoULoss":
        if head.take("reg_decoded_bbox", False) is not True:
            raise ConfigError(f"{head.where}.reg_decoded_bbox is not True, which GIoULoss needs.")
        loss.expect("eps", 1e-6)
        loss.expect("reduction", "mean")
        config["box_loss"], config["box_loss_weight"] = "giou", loss.take("loss_weight", 1.0)
        loss.done()
    else:
        head.expect("reg_decoded_bbox", False)
        config["smooth_l1_beta"], config["box_loss_weight"] = smooth_l1(loss)
    classes = head.take("num_classes", 80)
    head.done()
    return config, classes


def _mask(head: Settings, pooling: dict[str, Any], classes: int) -> dict[str, Any]:
    """FCNMaskHead."""
    of_type(head, "FCNMaskHead")
    head.ignore("init_cfg", "in_channels", "roi_feat_size")
    head.expect("conv_kernel_size", 3)
    head.expect("upsample_cfg", {"type": "deconv", "scale_factor": 2})
    head.expect("predictor_cfg", {"type": "Conv"})
    head.expect("conv_cfg", None)
    if (stated := head.take("num_classes", 80)) != classes:
        raise ConfigError(f"{head.where}.num_classes is {stated}, but the boxes have {classes} classes.")
    config = {
        "pooling": pooling,
        "num_convs": head.take("num_convs", 4),
        "channels": head.take("conv_out_channels", 256),
        "norm": _norm(head),
        "class_agnostic": head.take("class_agnostic", False),
        "loss_weight": cross_entropy(
            head.part("loss_mask", {"type": "CrossEntropyLoss", "use_mask": True}), use_mask=True
        ),
    }
    head.done()
    return config


def _train(options: Settings, mask: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's part of train_cfg."""
    positive_weight(options)
    options.expect("soft_mask_target", False)
    size = options.take("mask_size", 28)
    if (size[0] if isinstance(size, (list, tuple)) else size) != 2 * mask["pooling"]["size"]:
        raise ConfigError(f"{options.where}.mask_size is {size}; densevit has the size of the predicted masks there.")
    config = {"assign": assigner(options.part("assigner")), "sample": _sampler(options.part("sampler"))}
    options.done()
    return config


def _test(options: Settings) -> tuple[dict[str, Any], float]:
    """The second stage's part of test_cfg, and the threshold of masks."""
    config = {
        "score_thr": options.take("score_thr"),
        "nms_iou": nms_iou(options.part("nms")),
        "max_per_image": options.take("max_per_img"),
    }
    threshold = options.take("mask_thr_binary")
    options.done()
    return config, threshold
