"""COCO's figures of boxes and masks: ours against pycocotools as it is customarily called."""

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
"""Of an image, as many as COCO has on average; of the data set."""


def measure_evaluation(
    images: int = 1000, detections: int = 100, backend: str = "auto", rounds: int = 3, threads: int | None = None
) -> Ratio:
    """Time the evaluation of drawn detections against drawn truth, from lists in memory to the figures.

    Args:
        images: their number.
        detections: of each image.
        backend: of `evaluate_coco`.
        rounds: runs of each side.
        threads: of the back end; None: as it likes.

    Raises:
        ConfigError: no such back end, or figures that differ from pycocotools'.
    """
    if threads is not None:
        import os

        os.environ["RAYON_NUM_THREADS"] = str(threads)
    truth, results = draw(images, detections)
    figures: list[dict[str, float]] = [{}, {}]

    def ours() -> float:
        begun = time.perf_counter()
        figures[0] = evaluate_coco(truth, results, METRICS, backend)
        return time.perf_counter() - begun

    def theirs() -> float:
        given = copy.deepcopy((truth, results))  # which it changes
        begun = time.perf_counter()
        figures[1] = _pycocotools(*given)
        return time.perf_counter() - begun

    times = alternate(ours, theirs, rounds)
    for name, value in figures[1].items():
        if abs(figures[0][name] - value) > 1e-6:
            raise ConfigError(f"{name} is {figures[0][name]:.6f}, and {value:.6f} with pycocotools; nothing is told.")
    return ratio_of(*times)


def _pycocotools(truth: dict, results: list[dict]) -> dict[str, float]:
    figures = {}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        for metric in METRICS:
            if metric == "segm":  # with a box beside it a mask's area would be the box's
                for entry in results:
                    entry.pop("bbox")
            evaluator = COCOeval(coco, coco.loadRes(results), metric)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            figures |= {f"{metric}_{name}": float(x) for name, x in zip(METRIC_NAMES, evaluator.stats, strict=True)}
    return figures


def draw(images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results in COCO's form, with boxes and ellipses in them as masks; about half of the true objects are
    found, at places somewhat off."""
    random = np.random.default_rng(0)
    height, width = SIZE
    truth: dict[str, Any] = {
        "images": [{"id": i + 1, "height": height, "width": width} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": [],
    }
    results = []
    for i in range(1, images + 1):
        objects = _boxes(random, OBJECTS)
        classes = random.integers(1, CLASSES + 1, OBJECTS)
        for box, kind in zip(objects, classes, strict=True):
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": i,
                    "category_id": int(kind),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * np.pi / 4),
                    "iscrowd": 0,
                    "segmentation": [_outline(box)],
                }
            )
        found, kinds = _boxes(random, detections), random.integers(1, CLASSES + 1, detections)
        near = random.random(detections) < OBJECTS / 2 / detections
        chosen = random.integers(0, OBJECTS, detections)
        moved = objects[chosen] * (1 + 0.1 * random.standard_normal((detections, 4)))
        found[near], kinds[near] = moved[near], classes[chosen][near]
        found = np.clip(found, 1, [width - 60, height - 60, width, height])
        scores = np.round(random.random(detections), 4)
        masks = rle_codec.frPyObjects([_outline(box) for box in found], height, width)
        for box, kind, score, mask in zip(found, kinds, scores, masks, strict=True):
            counts = {"size": list(SIZE), "counts": mask["counts"].decode()}
            entry = {"image_id": i, "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
            results.append({**entry, "segmentation": counts})
    return truth, results


def _boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """Boxes (number, 4) as x, y, width, height, small ones more often than large ones."""
    sides = 8 + 300 * random.random((number, 2)) ** 2
    corners = random.random((number, 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate([corners, sides], 1)


def _outline(box: np.ndarray) -> list[float]:
    """The polygon of an ellipse."""
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    x, y = box[0] + box[2] * (1 + np.cos(angles)) / 2, box[1] + box[3] * (1 + np.sin(angles)) / 2
    return np.stack([x, y], 1).ravel().tolist()
