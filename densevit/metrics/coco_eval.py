"""The twelve metrics of COCO detection, equal to pycocotools' in every back end.

Definitions: https://cocodataset.org/#detection-eval. IoU 0.50:0.05:0.95, 101 recall points, at most 1/10/100
detections an image, areas split at 32^2 and 96^2 pixels. pycocotools is the reference; hotcoco and faster-coco-eval
are faster programs for the same arithmetic. All three give arrays of precision and recall, and what is read from
them is computed here, once. A metric without an object to be computed on is -1, as in pycocotools.
"""

import contextlib
import importlib.util
import io
import warnings
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from mmengine.logging import print_log

from densevit.errors import ConfigError, printable
from densevit.metrics.coco_format import CocoGroundTruth, read_results
from densevit.ops.coco_file import CocoFile
from densevit.ops.gc_paused import gc_paused

METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
METRICS = ("bbox", "segm")
LIMITS = (1, 10, 100)
"""Detections of a class and image that count, best first."""
BACKENDS = {"hotcoco": "hotcoco", "faster_coco_eval": "faster-coco-eval", "pycocotools": "pycocotools"}  # fastest first


def choose_backend(backend: str = "auto") -> str:
    """The back end to use: the fastest installed one for 'auto'. ConfigError for an unknown or absent one."""
    if backend == "auto":
        return next(name for name in BACKENDS if importlib.util.find_spec(name))
    if backend not in BACKENDS:
        raise ConfigError(f"COCO back end {backend!r} does not exist; choose from auto, {', '.join(BACKENDS)}.")
    if not importlib.util.find_spec(backend):
        raise ConfigError(f"COCO back end {backend!r} is not installed: pip install {BACKENDS[backend]}, or use auto.")
    return backend


def check_metrics(metric: str | Sequence[str]) -> list[str]:
    """`metric` as a list of 'bbox' and 'segm' without repeats; ConfigError for anything else."""
    metrics = list(dict.fromkeys([metric] if isinstance(metric, str) else metric))
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(f"COCO metric {name!r} does not exist; choose from {', '.join(METRICS)}.")
    return metrics


@gc_paused()
def evaluate_coco(
    ground_truth: CocoFile | dict | str | PathLike,
    results: list[dict] | str | PathLike,
    metric: str | Sequence[str] = "bbox",
    backend: str = "auto",
    categories: Sequence[int] | None = None,
    per_class: bool = False,
) -> dict[str, Any]:
    """Score a results list against COCO annotations, over all images of the annotations.

    Args:
        ground_truth: COCO instances as a dict, the path of the JSON file, or what `read_coco` gave for scoring.
        results: COCO results as a list (boxes [x, y, width, height], masks as polygons or RLE), or the JSON's path.
            Neither it nor `ground_truth` is changed.
        metric: 'bbox', 'segm' or both.
        backend: 'auto' (fastest installed), 'hotcoco', 'faster_coco_eval' or 'pycocotools'; all equal.
        categories: category ids to score; None means all of the annotations'.
        per_class: also give '<metric>_classes', a list of {name, AP, AP50, AR100} in the order of category ids.

    Returns:
        {'bbox_AP': ..., 'bbox_AP50': ..., ...}: the twelve of METRIC_NAMES for each metric, -1 where nothing is to be
        found; 'bbox_AP@1000' and 'bbox_AR@1000' where images hold more than 100 objects, or detections of one class.

    Raises:
        DataError: broken annotations or results (unknown image or category, NaN, missing keys).
        ConfigError: unknown metric, unknown or absent back end.
    """
    metrics, backend = check_metrics(metric), choose_backend(backend)
    gt = CocoGroundTruth(ground_truth, categories, masks="segm" in metrics)
    if not isinstance(results, list):
        results = read_results(results)
    scores: dict[str, Any] = {}
    for name in metrics:
        records, detections = gt.records(name), gt.detections(results, name)
        limit = _larger_limit(records, detections, name)
        precision, recall = _match(backend, name, gt.dataset(records), gt.dataset(detections), limit)
        if limit:
            scores[f"{name}_AP@{limit}"] = _mean(precision[..., 0, 3])
            scores[f"{name}_AR@{limit}"] = _mean(recall[..., 0, 3])
        scores.update(
            {f"{name}_{key}": value for key, value in zip(METRIC_NAMES, _twelve(precision, recall), strict=True)}
        )
        if per_class:
            scores[f"{name}_classes"] = _per_class(precision, recall, gt.class_names())
    return scores


def _larger_limit(records: list[dict], detections: list[dict], metric: str) -> int | None:
    """Where images hold more than LIMITS[-1] objects, or as many detections of one class: a limit that they keep, which
    is printed; None where there are none."""
    most = LIMITS[-1]
    objects = max(Counter(record["image_id"] for record in records).values(), default=0)
    found = max(Counter(record["image_id"] for record in detections).values(), default=0)
    alike = found
    if found > most:
        alike = max(Counter((record["image_id"], record["category_id"]) for record in detections).values())
    if max(objects, alike) <= most:
        return None
    limit = max(1000, 10 ** len(str(max(objects, alike) - 1)))
    print_log(
        f"{metric}: up to {objects} objects and {found} detections an image, more than {most}: AP counts {most} "
        f"detections of a class and image, AP@{limit} counts {limit}"
        + (". No image has more detections: raise the head's max_per_image" if found <= most else ""),
        logger="current",
    )
    return limit


def _match(backend: str, metric: str, gt: dict, detections: dict, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Precision (IoUs, recall points, classes, areas, limits) and recall (IoUs, classes, areas, limits), -1 = none.

    The limits are LIMITS and, where there is one, `limit`.
    """
    limits = [*LIMITS, limit] if limit else [*LIMITS]
    if not gt["images"] or not gt["categories"]:
        return np.full((10, 101, 0, 4, len(limits)), -1.0), np.full((10, 0, 4, len(limits)), -1.0)
    if backend == "hotcoco":
        from hotcoco import COCO, COCOeval
    elif backend == "faster_coco_eval":
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    # They report their steps on stdout, which belongs to the tool that called us.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = []
        for dataset in (gt, detections):
            side = COCO()
            side.dataset = dataset
            side.createIndex()
            sides.append(side)
        evaluator = COCOeval(*sides, metric)
        evaluator.params.maxDets = limits
        evaluator.evaluate()
        evaluator.accumulate()
        return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def _twelve(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """METRIC_NAMES from the arrays: areas are all, small, medium, large; limits 1, 10, 100 detections an image."""
    ap = [precision[..., 0, 2], precision[0, ..., 0, 2], precision[5, ..., 0, 2]]  # IoU 0.50 and 0.75 are rows 0 and 5
    ap += [precision[..., area, 2] for area in (1, 2, 3)]
    ar = [recall[..., 0, limit] for limit in (0, 1, 2)] + [recall[..., area, 2] for area in (1, 2, 3)]
    return [_mean(values) for values in ap + ar]


def _per_class(precision: np.ndarray, recall: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for k, name in enumerate(names):
        ap, ar = precision[:, :, k, 0, 2], recall[:, k, 0, 2]  # (IoUs, recall points), (IoUs,)
        rows.append({"name": name, "AP": _mean(ap), "AP50": _mean(ap[0]), "AR100": _mean(ar)})
    return rows


def format_metrics(scores: dict[str, Any]) -> str:
    """One line a name, one column a metric, six decimals; '-' where one was not computed."""
    metrics = [name for name in METRICS if f"{name}_AP" in scores]
    keys = [*METRIC_NAMES, *dict.fromkeys(key.partition("_")[2] for key in scores if "@" in key.partition("/")[0])]
    width = max(6, *(len(key) + 1 for key in keys))
    lines = [" " * width + "".join(f"{name:>11}" for name in metrics)]
    for key in keys:
        values = [scores.get(f"{name}_{key}") for name in metrics]
        lines.append(key.ljust(width) + "".join("-".rjust(11) if x is None else f"{x:>11.6f}" for x in values))
    return "\n".join(lines)


def class_table(scores: dict[str, Any]) -> str:
    """One line a class with AP, AP50 and AR100 of each metric, six decimals; '-' where a class has no object."""
    metrics = [name for name in METRICS if f"{name}_classes" in scores]
    width = max([5, *(len(row["name"]) for name in metrics for row in scores[f"{name}_classes"])])
    keys = ("AP", "AP50", "AR100")
    lines = ["class".ljust(width) + "".join(f"{f'{name} {key}':>12}" for name in metrics for key in keys)]
    for rows in zip(*(scores[f"{name}_classes"] for name in metrics), strict=True):
        values = [f"{row[key]:.6f}" if row[key] > -1 else "-" for row in rows for key in keys]
        lines.append(rows[0]["name"].ljust(width) + "".join(f"{value:>12}" for value in values))
    return "\n".join(map(printable, lines))
