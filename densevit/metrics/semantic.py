"""SemanticMetric: semantic segmentation scored by IoU, accuracy, Dice, F-score and boundary F."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from densevit.errors import ConfigError, DataError, printable, suggest
from densevit.metrics.boundary import TOLERANCE, boundary_scores
from densevit.metrics.class_map_files import ClassMapWriter
from densevit.metrics.confusion import IGNORE, confusion_matrix, mean_of, per_class_metrics
from densevit.metrics.distributed import ImageSums, PerImageMetric, name_of, record_of
from densevit.metrics.ground_truth_pair import map_pair
from densevit.registry import METRICS

METRIC_NAMES = {
    "mIoU": ("IoU", "Acc"),
    "mDice": ("Dice", "Acc"),
    "mFscore": ("Fscore", "Precision", "Recall"),
    "mBF": ("BF",),
}
"""What may be asked for -> the metrics of a class that it is about."""


@METRICS.register_module()
class SemanticMetric(PerImageMetric):
    """IoU and accuracy of `pred_semantic` against `gt_semantic`, from the confusion matrix of the whole dataset.

    Gives 'semantic/mIoU', 'semantic/mAcc' and 'semantic/aAcc', all from 0 to 1, and logs a table of the classes.
    `per_class_metrics` defines the metrics of a class, and 'm' is their mean over the classes that have one: a class
    without a pixel in ground truth and prediction has no IoU, one without a pixel in ground truth no accuracy. aAcc is
    the share of right pixels. These are mmsegmentation's metrics, which it states in per cent.

    The classes are the dataset's `semantic_classes`, or its `classes` where it has one kind alone. What is kept
    between batches is one matrix and the images' ids, and every image counts once, however often a distributed sampler
    repeats it.

    Args:
        metric: 'mIoU' (with mAcc), 'mDice' (with mAcc), 'mFscore' (with mPrecision and mRecall), 'mBF' (the boundary F
            of each image and class, see `boundary_scores`, averaged over the images, then the classes; takes about a
            second a megapixel), or several of them; aAcc comes with each.
        beta: of mFscore: how much more recall weighs than precision.
        nan_to_num: the metric of classes that have none; None leaves them out of the means.
        tolerance: of mBF: how far apart borders may lie that agree, as a share of the image's diagonal.
        out: folder for the predictions as PNG files, in the dataset's own values (`label_values` of its metainfo); the
            attribute of that name may be set later as well. Images without ground truth are then written and not
            scored.
        palette: whether these show the dataset's colors.
        matrix: path of a JSON file for the confusion matrix, rows ground truth; may be set later as well.
        options: of MMEngine's BaseMetric: `prefix` goes before every name.
    """

    default_prefix = "semantic"

    def __init__(
        self,
        metric: str | Sequence[str] = "mIoU",
        beta: float = 1.0,
        nan_to_num: float | None = None,
        tolerance: float = TOLERANCE,
        out: str | None = None,
        palette: bool = False,
        matrix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.metrics = (metric,) if isinstance(metric, str) else tuple(metric)
        for name in self.metrics:
            if name not in METRIC_NAMES:
                raise ConfigError(
                    f"SemanticMetric has no metric {name!r}{suggest(name, METRIC_NAMES)}: {', '.join(METRIC_NAMES)}."
                )
        self.beta, self.nan_to_num, self.tolerance = beta, nan_to_num, tolerance
        self.out, self.palette, self.matrix = out, palette, matrix
        self.writer: ClassMapWriter | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch: dicts with `pred_semantic` and `gt_semantic`, see `map_pair`.

        Raises:
            DataError: a class that there is not in the prediction, or maps of different sizes.
        """
        if not self.results:
            self.results.append(ImageSums())
        names = self._names()
        for sample in data_samples:
            if self.out and "pred_semantic" in sample:
                with self.writing(self.out):
                    self._open_writer()(sample["pred_semantic"].cpu().numpy(), **record_of(sample))
            if "gt_semantic" not in sample and "original_semantic" not in sample:
                if self.out:
                    continue
                raise ConfigError(
                    f"SemanticMetric compares with gt_semantic, and {name_of(sample)} has none; load it in the test "
                    "pipeline, or write the predictions alone: tools/test.py --out DIR."
                )
            ground_truth, predicted = map_pair(sample, "semantic", "SemanticMetric")
            matrix, unknown = confusion_matrix(ground_truth, predicted, len(names), name_of(sample))
            counts = {"matrix": matrix, "unknown": np.int64(unknown)}
            if "mBF" in self.metrics:
                ground_truth = torch.where((ground_truth < 0) | (ground_truth >= len(names)), IGNORE, ground_truth)
                maps = (values.cpu().numpy().astype(np.uint8) for values in (ground_truth, predicted))
                scores = boundary_scores(*maps, len(names), self.tolerance)
                counts |= {"boundary": np.nan_to_num(scores), "bordered": ~np.isnan(scores) * 1}
            self.results[0].add(record_of(sample), counts)

    def united(self, parts: Sequence[ImageSums]) -> ImageSums:
        return ImageSums.united(parts)

    def compute_metrics(self, results: ImageSums) -> dict[str, float]:
        """The metrics of all images that `process` counted."""
        if not results.images and self.out:
            print_log(f"No image has ground truth: nothing scored, class maps written to {self.out}", logger="current")
            return {}
        names, count = self._names(), len(results.images)
        matrix = results.sums.get("matrix", np.zeros((1, 1), np.int64))
        if not matrix.sum():
            raise DataError(f"none of the {count} images has a pixel with a class; check the class maps.")
        if unknown := int(results.sums["unknown"]):
            print_log(f"{unknown} pixels have a ground truth that is none of the classes: not scored", logger="current")
        known = per_class_metrics(matrix, self.beta)
        if "mBF" in self.metrics:
            with np.errstate(invalid="ignore"):
                known["BF"] = results.sums["boundary"] / results.sums["bordered"]
        asked = dict.fromkeys(name for metric in self.metrics for name in METRIC_NAMES[metric])
        by_class = {name: known[name] for name in asked}
        scores = {f"m{name}": mean_of(values, self.nan_to_num) for name, values in by_class.items()}
        scores["aAcc"] = float(matrix.trace() / matrix.sum())
        text = "\n".join(f"{key:<10}{value:>11.6f}" for key, value in scores.items())
        print_log(f"Classes of the pixels of {count} images\n{text}", logger="current")
        print_log("\n" + class_table(names, by_class, matrix.sum(1)), logger="current")
        if self.matrix:
            with self.writing(self.matrix):
                path = Path(self.matrix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"classes": list(names), "matrix": matrix.tolist()}) + "\n")
        return scores

    def _names(self) -> Sequence[str]:
        meta = self.dataset_meta or {}
        names = meta.get("semantic_classes") or meta.get("classes")
        if not names:
            raise ConfigError("SemanticMetric knows no classes: use a dataset whose metainfo states semantic_classes.")
        if len(names) > IGNORE:
            raise ConfigError(f"SemanticMetric counts up to {IGNORE} classes, and the dataset has {len(names)}.")
        return names

    def metric_names(self) -> list[str]:
        """What is computed, without the prefix."""
        return [f"m{name}" for metric in self.metrics for name in METRIC_NAMES[metric]] + ["aAcc"]

    def _open_writer(self) -> ClassMapWriter:
        if self.writer is None:
            meta = self.dataset_meta or {}
            colors = meta.get("palette") if self.palette else None
            if self.palette and colors is None:
                raise ConfigError("--palette: the dataset states no colors (`palette` in its metainfo); leave it out.")
            self.writer = ClassMapWriter(self.out, meta.get("label_values"), colors)
        return self.writer


def class_table(names: Sequence[str], scores: dict[str, np.ndarray], pixels: np.ndarray) -> str:
    """One line a class with its metrics and its pixels in ground truth; '-' where a class has no such value."""
    width = max(len("class"), *map(len, names))
    lines = ["class".ljust(width) + "".join(f"{name:>12}" for name in scores) + f"{'pixels':>14}"]
    for name, *values, count in zip(names, *scores.values(), pixels, strict=True):
        texts = ["-" if np.isnan(value) else f"{value:.6f}" for value in values]
        lines.append(name.ljust(width) + "".join(f"{text:>12}" for text in texts) + f"{count:>14}")
    return "\n".join(map(printable, lines))
