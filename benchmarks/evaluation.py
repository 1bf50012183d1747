"""COCO metrics of boxes and masks: ours against pycocotools."""

import contextlib
import copy
import io
import time
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.ratios import Ratio, alternate, ratio_of
from densevit.errors import ConfigError
from densevit.metrics.coco_eval import METRIC_NAMES, METRICS, evaluate_coco

SIZE = (480, 640)
OBJECTS, CLASSES = 7, 80
"""Objects of an image (COCO's average) and classes of the dataset."""


def measure_evaluation(
    images: int = 1000, detections: int = 100, backend: str = "auto", rounds: int = 3, threads: int | None = None
) -> Ratio:
    """Time the evaluation of random detections against random ground truth, from lists in memory to metrics.

    Args:
        images: their number.
        detections: of each image.
        backend: of `evaluate_coco`.
        rounds: runs of each.
        threads: of the backend; None: its default.

    Raises:
        ConfigError: no such backend, or metrics that differ from pycocotools'.
    """
    if threads is not None:
        import os

        os.environ["RAYON_NUM_THREADS"] = str(threads)
    ground_truth, results = random_dataset(images, detections)
    metrics: list[dict[str, float]] = [{}, {}]

    def ours() -> float:
        begun = time.perf_counter()
        metrics[0] = evaluate_coco(ground_truth, results, METRICS, backend)
        return time.perf_counter() - begun

    def theirs() -> float:
        given = copy.deepcopy((ground_truth, results))  # it changes them
        begun = time.perf_counter()
        metrics[1] = _pycocotools(*given)
        return time.perf_counter() - begun

    times = alternate(ours, theirs, rounds)
    for name, value in metrics[1].items():
        if abs(metrics[0][name] - value) > 1e-6:
            raise ConfigError(f"{name} is {metrics[0][name]:.6f}, but {value:.6f} with pycocotools; nothing was timed.")
    return ratio_of(*times)


def _pycocotools(ground_truth: dict, results: list[dict]) -> dict[str, float]:
    metrics = {}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = ground_truth
        coco.createIndex()
        for metric in METRICS:
            if metric == "segm":  # with a box in the entry a mask's area would be the box's
                for entry in results:
                    entry.pop("bbox")
            evaluator = COCOeval(coco, coco.loadRes(results), metric)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            metrics |= {f"{metric}_{name}": float(x) for name, x in zip(METRIC_NAMES, evaluator.stats, strict=True)}
    return metrics


def random_dataset(images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random ground truth and results in COCO's format, with ellipses as masks; about half of the objects are detected,
    with an error of a tenth of the box."""
    random = np.random.default_rng(0)
    height, width = SIZE
    ground_truth: dict[str, Any] = {
        "images": [{"id": i + 1, "height": height, "width": width} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": [],
    }
    results = []
    for i in range(1, images + 1):
        objects = _boxes(random, OBJECTS)
        classes = random.integers(1, CLASSES + 1, OBJECTS)
        for box, category in zip(objects, classes, strict=True):
            ground_truth["annotations"].append(
                {
                    "id": len(ground_truth["annotations"]) + 1,
                    "image_id": i,
                    "category_id": int(category),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * np.pi / 4),
                    "iscrowd": 0,
                    "segmentation": [_outline(box)],
                }
            )
        boxes, labels = _boxes(random, detections), random.integers(1, CLASSES + 1, detections)
        matched = random.random(detections) < OBJECTS / 2 / detections
        chosen = random.integers(0, OBJECTS, detections)
        moved = objects[chosen] * (1 + 0.1 * random.standard_normal((detections, 4)))
        boxes[matched], labels[matched] = moved[matched], classes[chosen][matched]
        boxes = np.clip(boxes, 1, [width - 60, height - 60, width, height])
        scores = np.round(random.random(detections), 4)
        masks = rle_codec.frPyObjects([_outline(box) for box in boxes], height, width)
        for box, label, score, mask in zip(boxes, labels, scores, masks, strict=True):
            counts = {"size": list(SIZE), "counts": mask["counts"].decode()}
            entry = {"image_id": i, "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
            results.append({**entry, "segmentation": counts})
    return ground_truth, results


def _boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """Boxes (number, 4) as x, y, width, height, small ones more frequent than large ones."""
    sides = 8 + 300 * random.random((number, 2)) ** 2
    corners = random.random((number, 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate([corners, sides], 1)


def _outline(box: np.ndarray) -> list[float]:
    """The polygon of an ellipse."""
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    x, y = box[0] + box[2] * (1 + np.cos(angles)) / 2, box[1] + box[3] * (1 + np.sin(angles)) / 2
    return np.stack([x, y], 1).ravel().tolist()
