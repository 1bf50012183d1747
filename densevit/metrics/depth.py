"""DepthMetric: depth scored with the errors and accuracies of Eigen et al. (arXiv 1406.2283, section 4), by a protocol
that the log states beside the metrics."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from densevit.errors import ConfigError, DataError, suggest
from densevit.metrics.depth_map_files import DepthMapWriter
from densevit.metrics.distributed import PerImageMetric, name_of, record_of
from densevit.metrics.ground_truth_pair import map_pair
from densevit.ops.depth_crops import CROPS, outside_range
from densevit.registry import METRICS

METRIC_NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "silog_kitti", "delta1", "delta2", "delta3")
ALIGNMENTS = ("median", "least_squares")
WITHOUT_ZERO = torch.finfo(torch.float64).tiny


@METRICS.register_module()
class DepthMetric(PerImageMetric):
    """Errors of `pred_depth` against `gt_depth`, in meters: those of each image, then their mean over the images.

    Gives 'depth/abs_rel' and so on, one of each name of METRIC_NAMES; `depth_metrics` defines them. The pixels that
    count are those within the crop whose ground truth lies between min_depth and max_depth, both excluded, and which
    the model can predict (its samples' meta `depth_range`). An image without such a pixel is left out. What is kept
    between batches is ten numbers an image, and every image counts once, however often a distributed sampler repeats
    it.

    A model of relative depth (its samples' meta `depth_kind` is 'relative') predicts inverse depth up to scale and
    shift, and needs an alignment: it is fitted to each image's own ground truth, so its metrics are not comparable with
    those of metric models.

    Usual protocols: NYU crop='nyu_eigen', max_depth=10; KITTI crop='garg' or 'eigen' with max_depth=80 (Garg's with
    'kb_garg' in the code of AdaBins, ZoeDepth and Depth-Anything, which crop the images first). mmsegmentation's is
    clamp=False.

    Args:
        min_depth: meters.
        max_depth: meters; 10 is usual indoors (NYU), 80 on roads (KITTI).
        crop: None for the whole image; 'nyu_eigen' (rows 45 to 471, columns 41 to 601 of 480 x 640); 'garg' or 'eigen',
            shares of a KITTI image; 'kb_garg' or 'kb_eigen', the same shares of its KB crop (see the transform KBCrop).
        clamp: bring predictions between min_depth and max_depth before they are compared, as BTS and its successors do.
        align: bring each image's prediction to its ground truth first: 'median' multiplies the depth so that their
            medians are equal; 'least_squares' fits scale and shift, to inverse depth where the model's depth is
            relative, else to depth.
        out: folder for the predictions as 16-bit PNG files, in the unit of the dataset's own maps (`depth_scale` of
            its metainfo, else millimeters); may be set later as well. Images without ground truth are then written and
            not scored.
        options: of MMEngine's BaseMetric: `prefix` goes before every name.

    Raises:
        ConfigError: no depth lies between the two, or an unknown crop or alignment.
    """

    default_prefix = "depth"

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        crop: str | None = None,
        clamp: bool = True,
        align: str | None = None,
        out: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 <= min_depth < max_depth or (clamp and min_depth == 0):
            raise ConfigError(f"DepthMetric needs 0 < min_depth < max_depth, not {min_depth} and {max_depth} meters.")
        for name, given, known in (("crop", crop, CROPS), ("align", align, ALIGNMENTS)):
            if given is not None and given not in known:
                raise ConfigError(
                    f"DepthMetric has no {name}={given!r}{suggest(given, known)}: choose from None, {', '.join(known)}."
                )
        self.min_depth, self.max_depth = min_depth, max_depth
        self.crop, self.clamp, self.align = crop, clamp, align
        self.out, self.writer = out, None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score each image of one batch: dicts with `pred_depth` and `gt_depth`, see `map_pair`.

        Raises:
            ConfigError: the model's depth is relative and no alignment is asked for.
            DataError: a prediction that is no number, maps of different sizes, or a crop that fits other images.
        """
        views = _views_of(data_batch)
        for sample in data_samples:
            if self.out and "pred_depth" in sample:
                with self.writing(self.out):
                    depth, kind = sample["pred_depth"].cpu().numpy(), sample.get("depth_kind") or "metric"
                    self._open_writer()(depth, kind, record_of(sample)["img_id"])
                if "gt_depth" not in sample and "original_depth" not in sample:
                    continue
            ground_truth, predicted = (self._cropped(x, sample) for x in map_pair(sample, "depth", "DepthMetric"))
            relative = sample.get("depth_kind") == "relative"
            if relative and self.align is None:
                raise ConfigError(
                    "the model predicts relative depth, which is in no unit: set align='least_squares' (or 'median') "
                    "on DepthMetric, or train a head of metric depth."
                )
            counted, bounds = (
                (ground_truth > self.min_depth) & (ground_truth < self.max_depth),
                sample.get("depth_range"),
            )
            if bounds is not None:
                counted &= ~outside_range(ground_truth, bounds)
            ground_truth, predicted = ground_truth[counted].double(), predicted[counted].double()
            if predicted.isnan().any():
                raise DataError(
                    f"the depth predicted for {name_of(sample)} is not a number everywhere: the model has diverged; go "
                    "back to an earlier checkpoint."
                )
            metrics = self._scored(ground_truth, predicted, relative, sample) if len(ground_truth) else None
            kind = "relative" if relative else "metric"
            self.results.append(
                {**record_of(sample), "metrics": metrics, "kind": kind, "views": views, "range": bounds}
            )

    def metric_names(self) -> list[str]:
        """What is computed, without the prefix."""
        return list(METRIC_NAMES)

    def _open_writer(self) -> DepthMapWriter:
        if self.writer is None:
            self.writer = DepthMapWriter(self.out, (self.dataset_meta or {}).get("depth_scale"))
        return self.writer

    def _cropped(self, values: Tensor, sample: dict) -> Tensor:
        """The part of a map (H, W) that counts."""
        if self.crop is None:
            return values
        window = CROPS[self.crop](*values.shape)
        if window is None:
            height, width = values.shape
            raise DataError(
                f"{name_of(sample)} is {width}x{height} pixels, which the crop {self.crop!r} of DepthMetric does not "
                "fit: score images of the size that it is defined for, or choose another crop."
            )
        top, bottom, left, right = window
        return values[top:bottom, left:right]

    def _scored(self, ground_truth: Tensor, predicted: Tensor, relative: bool, sample: dict) -> list[float]:
        """METRIC_NAMES of one image's pixels: two of (N,), ground truth in meters."""
        if self.align is not None:
            predicted = aligned(ground_truth, predicted, self.align, relative, self.max_depth)
        if self.clamp:
            predicted = predicted.clamp(self.min_depth, self.max_depth)
        elif (predicted <= 0).any():
            raise DataError(
                f"{int((predicted <= 0).sum())} pixels of {name_of(sample)} have ground truth and no predicted depth "
                "above 0: set clamp=True on DepthMetric, or a crop within which the model predicts."
            )
        return depth_metrics(ground_truth, predicted).tolist()

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The means over the images that `process` scored."""
        if self.writer is not None:
            print_log(f"Depth maps written to {self.writer}", logger="current")
            if not results:
                print_log("No image has ground truth: nothing scored", logger="current")
                return {}
        scored = [image["metrics"] for image in results if image["metrics"] is not None]
        if not scored:
            span = self._span(results[0]["range"] if results else None)
            raise DataError(
                f"none of the {len(results)} images has a pixel of true depth in {span}; check the unit of the "
                "depth maps (depth_scale of the dataset), DepthMetric's max_depth and its crop."
            )
        metrics = dict(zip(METRIC_NAMES, torch.tensor(scored, dtype=torch.float64).mean(0).tolist(), strict=True))
        text = "\n".join(f"{key:<12}{value:>11.6f}" for key, value in metrics.items())
        first = results[0]
        print_log(
            f"Depth of {len(scored)} images ({len(results) - len(scored)} without a pixel in range left out)\n"
            f"protocol: {self.protocol(first['kind'], first['views'], first['range'])}\n{text}",
            logger="current",
        )
        return metrics

    def protocol(
        self, kind: str = "metric", views: tuple[int, bool] = (1, False), bounds: tuple[float, float] | None = None
    ) -> str:
        """What was compared with what, in one line.

        Args:
            kind: 'metric' or 'relative', the model's depth.
            views: how many views of an image were averaged, and whether there were flipped ones among them.
            bounds: the nearest and the farthest depth that the model can predict, meters.
        """
        space = "inverse depth" if kind == "relative" else "depth"
        alignments = {
            None: "no alignment",
            "median": "median of each image aligned to its ground truth",
            "least_squares": f"scale and shift of {space} fitted to each image's ground truth (least squares)",
        }
        count, flipped = views
        views_used = (
            "one view, no flip" if count == 1 else f"mean of {count} views{', flip' if flipped else ', no flip'}"
        )
        return "; ".join((
            f"{kind} depth",
            f"crop {self.crop or 'none'}",
            f"ground truth in {self._span(bounds)}",
            f"predictions {'clamped to it' if self.clamp else 'not clamped'}",
            alignments[self.align],
            views_used,
            "mean of each image, then over images",
            "silog = sqrt(mean d^2 - (mean d)^2 / 2)",
            "silog_kitti = 100 sqrt(mean d^2 - (mean d)^2)",
        ))  # fmt: skip

    def _span(self, bounds: tuple[float, float] | None) -> str:
        span = f"({self.min_depth:g}, {self.max_depth:g}) m"
        if bounds is None or (bounds[0] <= self.min_depth and bounds[1] >= self.max_depth):
            return span
        return f"{span}, of it what the model can predict, [{bounds[0]:g}, {bounds[1]:g}] m"


def aligned(ground_truth: Tensor, predicted: Tensor, how: str, relative: bool, max_depth: float) -> Tensor:
    """The prediction of one image in meters, fitted to its ground truth; all of (N,), ground truth in meters.

    Args:
        how: 'median' or 'least_squares', see DepthMetric.
        relative: `predicted` is inverse depth up to scale and shift.
        max_depth: meters; what comes out farther, or behind the camera, in inverse depth is there.
    """
    if how == "least_squares":
        goal = ground_truth.reciprocal() if relative else ground_truth
        centered = predicted - predicted.mean()
        scale = (centered * (goal - goal.mean())).sum() / centered.square().sum().clamp(min=WITHOUT_ZERO)
        fitted = scale * centered + goal.mean()
        return fitted.clamp(min=1 / max_depth).reciprocal() if relative else fitted
    depth = predicted.clamp(min=WITHOUT_ZERO).reciprocal() if relative else predicted
    return depth * (_median(ground_truth) / _median(depth))


def _median(values: Tensor) -> Tensor:
    """Of (N,); the mean of the two in the middle of an even number."""
    count = len(values)
    return values.sort().values[[(count - 1) // 2, count // 2]].mean()


def depth_metrics(ground_truth: Tensor, predicted: Tensor) -> Tensor:
    """METRIC_NAMES of one image's pixels: two of (N,), meters above 0 -> (10,).

    With e = predicted - ground truth and d = ln predicted - ln ground truth: abs_rel = mean |e| / ground truth; sq_rel
    = mean e^2 / ground truth (meters); rmse = sqrt(mean e^2) (meters); rmse_log = sqrt(mean d^2); log10 = mean |d| / ln
    10; silog = sqrt(mean d^2
    - (mean d)^2 / 2), which forgives half of a common factor, as in mmsegmentation; silog_kitti = 100 sqrt(mean d^2 -
    (mean d)^2), which forgives all of it, as in KITTI's benchmark, BTS and AdaBins; deltaK = share of pixels whose
    predicted / ground truth and ground truth / predicted are both below 1.25^K.
    """
    error, log_error = predicted - ground_truth, predicted.log() - ground_truth.log()
    ratio = torch.maximum(predicted / ground_truth, ground_truth / predicted)
    square, mean = log_error.square().mean(), log_error.mean()
    metrics = [
        (error.abs() / ground_truth).mean(),
        (error.square() / ground_truth).mean(),
        error.square().mean().sqrt(),
        square.sqrt(),
        (predicted.log10() - ground_truth.log10()).abs().mean(),
        (square - mean.square() / 2).clamp(min=0).sqrt(),
        100 * (square - mean.square()).clamp(min=0).sqrt(),  # rounding may leave less than nothing
        *((ratio < 1.25**power).to(ground_truth.dtype).mean() for power in (1, 2, 3)),
    ]
    return torch.stack(metrics)


def _views_of(data_batch: Any) -> tuple[int, bool]:
    """How many views of each image were averaged, and whether some of them are flipped; see the transform
    TestTimeAugmentation."""
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    if not samples or not isinstance(samples[0], list | tuple):
        return 1, False
    views = samples[1:]
    return len(views), any(view[0].get("flip", False) for view in views)
