"""What the configurations of mmsegmentation's heads have in common: inputs, norms, losses; and its preprocessing."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.mmdet_terms import of_type
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.errors import ConfigError

RELU = {"type": "ReLU"}


def batch_norm(settings: Settings, key: str = "norm_cfg") -> str | None:
    """The norm of convolutions: 'BN' (SyncBN computes the same), or None. Raises NotBuilt."""
    if settings.left.get(key) is None:
        settings.ignore(key)
        return None
    norm = of_type(settings.part(key), "BN", "SyncBN", "BN2d")
    norm.ignore("requires_grad")
    norm.expect("eps", 1e-5)
    norm.expect("momentum", 0.1)
    norm.done()
    return "BN"


def plain_relu(settings: Settings, default: Mapping | None = RELU) -> None:
    """`act_cfg` of convolutions, which end in a ReLU here."""
    settings.left.setdefault("act_cfg", default)
    settings.expect("act_cfg", RELU, [{"type": "ReLU", "inplace": flag} for flag in (True, False)])


def batch_norm_relu(settings: Settings) -> None:
    """Convolutions with batch norm and ReLU, and no others."""
    if batch_norm(settings) is None:
        raise ConfigError(f"{settings.where}.norm_cfg is None; densevit has batch norm ('BN' or 'SyncBN') there.")
    plain_relu(settings)


def layer_norm_eps(settings: Settings, key: str, default: Mapping) -> float:
    """eps of a LayerNorm."""
    norm = of_type(settings.part(key, default), "LN")
    eps = norm.take("eps", 1e-5)
    norm.ignore("requires_grad")
    norm.done()
    return eps


def inputs_of(settings: Settings) -> tuple[list[int], list[int]]:
    """Numbers of the maps that a head looks at (the last is -1), and their channels as stated."""
    settings.expect("input_transform", None, ["multiple_select"])
    index, channels = settings.take("in_index", -1), settings.take("in_channels")
    return _listed(index), _listed(channels)


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def classifier(settings: Settings) -> dict[str, Any]:
    """What every head has: number of classes, dropout, losses, resizing."""
    count = settings.take("num_classes")
    if settings.take("out_channels", None) not in (None, count) or count == 1:
        raise NotBuilt(
            f"{settings.where} tells two classes by one channel and a threshold; densevit has a channel for each class."
        )
    settings.ignore("threshold", "init_cfg")
    settings.expect("conv_cfg", None)
    config = {
        "num_classes": count,
        "dropout": settings.take("dropout_ratio", 0.1),
        "losses": losses(settings, count),
    }
    if settings.take("align_corners", False):
        config["align_corners"] = True
    return config


def losses(head: Settings, classes: int) -> list[dict[str, Any]]:
    """`loss_decode`, one or several, with the head's `ignore_index` and `sampler`."""
    given = head.take("loss_decode", {"type": "CrossEntropyLoss"})
    several = given if isinstance(given, (list, tuple)) else [given]
    ignored = head.take("ignore_index", 255)
    found = []
    for i, config in enumerate(several):
        loss = Settings(config, f"{head.where}.loss_decode" + (f"[{i}]" if len(several) > 1 else ""))
        if loss.type not in LOSSES:
            raise NotBuilt(f"{loss.where}.type is {loss.type!r}; densevit has {', '.join(LOSSES)} there.")
        loss.ignore("loss_name")
        loss.expect("reduction", "mean")
        ours = LOSSES[loss.type](loss, classes)
        if (weight := loss.take("loss_weight", 1.0)) != 1:
            ours["loss_weight"] = weight
        if ignored != 255:
            ours["ignore_index"] = ignored
        loss.done()
        found.append(ours)
    if head.left.get("sampler") is not None:
        if len(found) != 1 or found[0]["type"] != "CrossEntropyLoss":
            raise NotBuilt(f"{head.where}.sampler chooses pixels for other losses; densevit's is one of cross entropy.")
        sampler = of_type(head.part("sampler"), "OHEMPixelSampler")
        found[0]["ohem"] = {"thresh": sampler.take("thresh", None), "min_kept": sampler.take("min_kept", 100000)}
        sampler.done()
    head.ignore("sampler")
    return found


def _class_weight(loss: Settings) -> dict[str, list[float]]:
    weight = loss.take("class_weight", None)
    if isinstance(weight, str):
        raise ConfigError(f"{loss.where}.class_weight is the file {weight!r}; write the weights into the config.")
    return {} if weight is None else {"class_weight": [float(number) for number in weight]}


def _cross_entropy(loss: Settings, classes: int) -> dict[str, Any]:
    loss.expect("use_mask", False)
    average = "known" if loss.take("avg_non_ignore", False) else "all"
    if loss.take("use_sigmoid", False):
        loss.expect("class_weight", None)
        return {"type": "BinaryCrossEntropyLoss", "average": average}
    return {"type": "CrossEntropyLoss", "average": average, **_class_weight(loss)}


def _dice(loss: Settings, classes: int) -> dict[str, Any]:
    loss.expect("activate", True)
    config = {
        "type": "DiceLoss",
        "probability": "sigmoid" if loss.take("use_sigmoid", True) else "softmax",
        "squared": not loss.take("naive_dice", False),
        "eps": loss.take("eps", 1e-3),
        "average": "all",
    }
    left_out = loss.take("ignore_index", 255)
    return {**config, "left_out": left_out} if left_out in range(classes) else config


def _focal(loss: Settings, classes: int) -> dict[str, Any]:
    loss.expect("use_sigmoid", True)
    alpha = loss.take("alpha", 0.5)
    config = {"type": "FocalLoss", "gamma": loss.take("gamma", 2.0), "average": "all", **_class_weight(loss)}
    return {**config, "alpha": list(alpha) if isinstance(alpha, (list, tuple)) else alpha}


LOSSES = {"CrossEntropyLoss": _cross_entropy, "DiceLoss": _dice, "FocalLoss": _focal}
"""mmsegmentation's type -> what makes ours of its settings and the number of classes."""


def inference(test: Settings) -> dict[str, Any] | None:
    """`test_cfg`: windows, or None for whole images."""
    mode = test.take("mode", "whole")
    windows = {"window": test.take("crop_size", None), "stride": test.take("stride", None)}
    test.ignore("rescale")
    test.done()
    if mode == "whole":
        return None
    if mode != "slide":
        raise ConfigError(f"{test.where}.mode is {mode!r}; mmsegmentation has 'whole' and 'slide'.")
    if None in windows.values():
        raise ConfigError(f"{test.where} lacks crop_size or stride, which mode 'slide' needs.")
    return {"type": "SlidingWindow", **{key: tuple(sides) for key, sides in windows.items()}}


def preprocessor(settings: Settings) -> dict[str, Any]:
    """SegDataPreProcessor, of which in prediction only its `test_cfg` pads; without one nothing is normalised."""
    of_type(settings, None, "SegDataPreProcessor", "BaseDataPreprocessor")
    mean, std = settings.take("mean", None), settings.take("std", None)
    flips = bool(settings.take("bgr_to_rgb", False)) or bool(settings.take("rgb_to_bgr", False))
    settings.expect("pad_val", 0, [0.0])
    settings.expect("seg_pad_val", 255)
    settings.expect("batch_augments", None)
    size = settings.take("size", None)
    settings.ignore("size_divisor", "non_blocking")  # the first of batches in training
    padding = settings.part("test_cfg") if settings.left.get("test_cfg") else Settings({}, settings.where)
    settings.ignore("test_cfg")
    settings.done()
    padding.expect("size", None)
    divisor = padding.take("size_divisor", None)
    padding.done()
    mean, std = ((0.0,) * 3, (1.0,) * 3) if mean is None else (tuple(mean), tuple(std))
    config = {
        "type": "Preprocessor",
        "mean": mean,
        "std": std,
        "bgr_to_rgb": flips and len(mean) == 3,
        "size_divisor": divisor or 1,
    }
    return config if size is None else {**config, "train_size": tuple(size)}
