"""Ground truth and prediction of maps (H, W), both in the frame of the original image."""

from torch import Tensor

from densevit.errors import ConfigError, DataError
from densevit.metrics.distributed import name_of


def map_pair(sample: dict, name: str, metric: str) -> tuple[Tensor, Tensor]:
    """`gt_<name>` and `pred_<name>` of one sample, both (H, W), on the prediction's device.

    The ground truth is `original_<name>`, or `gt_<name>`, which comes in the frame of the network's input: that one
    loses the padding (`img_shape` is what stays) and is turned back where the image was flipped. `metric` names the
    metric in messages.

    Raises:
        ConfigError: the sample lacks one of the two.
        DataError: they differ in size.
    """
    predicted, original = sample.get(f"pred_{name}"), sample.get(f"original_{name}")
    ground_truth = sample.get(f"gt_{name}") if original is None else original
    if predicted is None:
        raise ConfigError(f"{metric} scores pred_{name}, and the model predicts none; give it a head that does.")
    if ground_truth is None:
        raise ConfigError(
            f"{metric} compares with gt_{name}, and {name_of(sample)} has none; load it in the test pipeline."
        )
    if original is None:
        height, width = sample["img_shape"]
        ground_truth = ground_truth[:height, :width]
        ground_truth = ground_truth.flip(-1) if sample.get("flip") else ground_truth
    if ground_truth.shape != predicted.shape:
        raise DataError(
            f"{name_of(sample)}: gt_{name} has {_size(ground_truth)} pixels and the prediction {_size(predicted)} "
            "(height x width); a test pipeline has to keep the map's own size: put "
            "LoadAnnotations behind Resize, crop nothing."
        )
    return ground_truth.to(predicted.device), predicted


def _size(values: Tensor) -> str:
    return " x ".join(map(str, values.shape))
