"""DepthMetric: metric depth scored with the errors and accuracies of Eigen et al. (arXiv 1406.2283, section 4)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from densevit.errors import ConfigError, DataError
from densevit.metrics.gathering import PerImageMetric, name_of, record_of
from densevit.metrics.pixel_maps import map_pair
from densevit.registry import METRICS

FIGURES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")


@METRICS.register_module()
class DepthMetric(PerImageMetric):
    """Errors of `pred_depth` against `gt_depth`, both in metres: those of each image, then their mean over the images.

    Gives 'depth/abs_rel' and so on, one of each name of FIGURES; `depth_figures` defines them. The pixels that count
    are those whose truth lies in (min_depth, max_depth]; predictions are clamped to [min_depth, max_depth]. An image
    without such a pixel is left out. The log states all of this beside the figures. What is kept between batches is
    nine numbers an image, and every image counts once, however often a distributed sampler repeats it.

    Args:
        min_depth: metres, above 0.
        max_depth: metres; 10 is the custom indoors (NYU), 80 on roads (KITTI).
        prefix: goes before every name.

    Raises:
        ConfigError: no depth lies between the two.
    """

    default_prefix = "depth"

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not 0 < min_depth < max_depth:
            raise ConfigError(f"DepthMetric needs 0 < min_depth < max_depth, not {min_depth} and {max_depth} metres.")
        self.min_depth, self.max_depth = min_depth, max_depth

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score each image of one batch: dicts with `pred_depth` and `gt_depth`, see `map_pair`.

        Raises:
            DataError: a prediction that is no number, or maps of different sizes.
        """
        for sample in data_samples:
            truth, predicted = map_pair(sample, "depth", "DepthMetric")
            counted = (truth > self.min_depth) & (truth <= self.max_depth)
            truth, predicted = truth[counted].double(), predicted[counted].double()
            if predicted.isnan().any():
                raise DataError(
                    f"the depth predicted for {name_of(sample)} is not a number everywhere: the model has diverged; go "
                    "back to an earlier checkpoint."
                )
            figures = None
            if len(truth):
                figures = depth_figures(truth, predicted.clamp(self.min_depth, self.max_depth)).tolist()
            self.results.append({**record_of(sample), "figures": figures})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The means over the images that `process` scored."""
        scored = [image["figures"] for image in results if image["figures"] is not None]
        span = f"({self.min_depth:g}, {self.max_depth:g}] m"
        if not scored:
            raise DataError(
                f"none of the {len(results)} images has a pixel of true depth in {span}; check the unit of the depth "
                "maps (metres) and DepthMetric's max_depth."
            )
        figures = dict(zip(FIGURES, torch.tensor(scored, dtype=torch.float64).mean(0).tolist(), strict=True))
        text = "\n".join(f"{key:<9}{value:>11.6f}" for key, value in figures.items())
        print_log(
            f"Depth of {len(scored)} images ({len(results) - len(scored)} without a pixel in range left out): truth in "
            f"{span}, predictions clamped to it, mean of each image, then over images; no crop, no scaling; "
            f"silog = sqrt(mean d^2 - (mean d)^2 / 2)\n{text}",
            logger="current",
        )
        return figures


def depth_figures(truth: Tensor, predicted: Tensor) -> Tensor:
    """FIGURES of one image's pixels: two of (N,), metres above 0 -> (9,).

    With e = predicted - truth and d = ln predicted - ln truth: abs_rel = mean |e| / truth; sq_rel = mean e^2 / truth
    (metres); rmse = sqrt(mean e^2) (metres); rmse_log = sqrt(mean d^2); log10 = mean |d| / ln 10; silog = sqrt(mean d^2
    - (mean d)^2 / 2), which forgives half of a common factor and is not multiplied by 100, as in mmsegmentation; deltaK
    = share of pixels whose predicted / truth and truth / predicted are both below 1.25^K.
    """
    error, log_error = predicted - truth, predicted.log() - truth.log()
    ratio = torch.maximum(predicted / truth, truth / predicted)
    figures = [
        (error.abs() / truth).mean(),
        (error.square() / truth).mean(),
        error.square().mean().sqrt(),
        log_error.square().mean().sqrt(),
        (predicted.log10() - truth.log10()).abs().mean(),
        (log_error.square().mean() - log_error.mean().square() / 2).sqrt(),
        *((ratio < 1.25**power).to(truth.dtype).mean() for power in (1, 2, 3)),
    ]
    return torch.stack(figures)
