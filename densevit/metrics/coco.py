"""CocoMetric: a model's boxes and masks scored as COCO does, and written as a COCO results file."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from densevit.errors import ConfigError, DataError
from densevit.metrics.coco_eval import (
    METRIC_NAMES,
    check_metrics,
    choose_backend,
    class_table,
    evaluate_coco,
    format_metrics,
)
from densevit.metrics.distributed import PerImageMetric, record_of
from densevit.metrics.samples_to_coco import annotations_of, array, ground_truth_objects
from densevit.ops.coco_file import CocoFile, read_coco
from densevit.outputs import Inputs, require_file
from densevit.registry import METRICS


@METRICS.register_module()
class CocoMetric(PerImageMetric):
    """AP and AR of `pred_instances` against a COCO annotation file, over all images of that file.

    Where neither `ann_file` nor the dataset names a file, ground truth is what the samples carry, `gt_instances` and as
    crowds `ignored_instances`, over all images that were predicted; an area is that of the mask, or else of the box.

    Gives 'coco/bbox_AP', 'coco/bbox_AP50', ... (the twelve of `coco_metrics.METRIC_NAMES`), 'coco/segm_AP' and so on
    for masks. What is kept between batches is the detections alone (masks as the RLEs that heads give), and every image
    counts once, however often a distributed sampler repeats it.

    Args:
        ann_file: annotations in COCO's instances format; None takes the dataset's own (`dataset_meta['ann_file']`), or
            where it has none the samples' ground truth.
        metric: 'bbox', 'segm' or both.
        backend: 'auto' (fastest installed), 'hotcoco', 'faster_coco_eval' or 'pycocotools'; all equal.
        per_class: log AP, AP50 and AR@100 of each class, and give 'coco/bbox_AP/<class>'.
        out: path of a COCO results JSON to write; the attribute of that name may be set later as well.
        options: of MMEngine's BaseMetric: `prefix` goes before every name.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        backend: str = "auto",
        per_class: bool = False,
        out: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.ann_file = ann_file
        self.metrics = check_metrics(metric)
        self.backend = choose_backend(backend)  # an absent one is reported now, not after an hour of prediction
        self.per_class = per_class
        self.out = out

    def metric_names(self) -> list[str]:
        """What is computed, without the prefix."""
        return [f"{metric}_{key}" for metric in self.metrics for key in METRIC_NAMES]

    def check_out(self, dataset: Any, option: str, inputs: Inputs) -> None:
        """ConfigError where `out` cannot be written, or is an input."""
        require_file(self.out, option, inputs)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the detections of one batch: dicts with `img_id` and `pred_instances` in the original image's frame."""
        file = self._annotations()
        for sample in data_samples:
            instances = sample.get("pred_instances")
            if instances is None:
                raise ConfigError(
                    "CocoMetric scores pred_instances, and the model predicts none; its head has to find objects."
                )
            kept = {
                **record_of(sample),
                "boxes": array(instances["bboxes"]).reshape(-1, 4),  # (N, 4), also of none
                "scores": array(instances["scores"]),
                "labels": array(instances["labels"]),
            }
            if "segm" in self.metrics:
                if "masks" not in instances:
                    raise ConfigError("CocoMetric(metric='segm') needs masks, and the model predicts none.")
                kept["masks"] = _with_text(instances["masks"])
            if file is None:
                kept["ground_truth"] = ground_truth_objects(sample)
                if "segm" in self.metrics and "masks" not in kept["ground_truth"]:
                    raise ConfigError(
                        "CocoMetric(metric='segm') needs true masks: give it ann_file, or set with_masks=True on the "
                        "test dataset."
                    )
            self.results.append(kept)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Score what `process` kept; writes `out` where it is set."""
        path = self._annotations()
        if path is None:
            names, cat_ids = self._stated_categories()
        source = annotations_of(results, names, cat_ids) if path is None else path
        ground_truth = read_coco(source, scoring=True, masks="segm" in self.metrics)
        if path is not None:
            cat_ids = self._category_ids(ground_truth)
        detections = list(_records(results, cat_ids))
        start = time.perf_counter()
        scores = evaluate_coco(ground_truth, detections, self.metrics, self.backend, cat_ids, self.per_class)
        seconds = time.perf_counter() - start
        print_log(f"COCO metrics by {self.backend} in {seconds:.2f} s\n{format_metrics(scores)}", logger="current")
        if self.out:
            with self.writing(self.out):
                write_results(self.out, detections)
                print_log(f"{len(detections)} detections written to {self.out}", logger="current")
        if self.per_class:
            print_log("\n" + class_table(scores), logger="current")
            for metric in self.metrics:
                rows = scores.pop(f"{metric}_classes")
                scores.update({f"{metric}_AP/{row['name']}": row["AP"] for row in rows})
        return scores

    def _annotations(self) -> Path | None:
        """The annotation file, or None where ground truth is the samples' own."""
        path = self.ann_file or (self.dataset_meta or {}).get("ann_file")
        if not path:
            return None
        if not Path(path).is_file():
            raise DataError(f"annotation file {path} does not exist; check CocoMetric's ann_file.")
        return Path(path)

    def _stated_categories(self) -> tuple[list[str], list[int]]:
        """Names and category ids of the labels, as the dataset states them; ids are 1.. where it states none."""
        meta = self.dataset_meta or {}
        names = list(meta.get("classes") or ())
        if not names:
            raise ConfigError("CocoMetric knows no classes: give it ann_file, or use a dataset that states classes.")
        return names, list(meta.get("cat_ids") or range(1, len(names) + 1))

    def _category_ids(self, ground_truth: CocoFile) -> list[int]:
        """Original category id of each label: as the dataset states it, else looked up by class name."""
        meta = self.dataset_meta or {}
        if meta.get("cat_ids") is not None:
            return list(meta["cat_ids"])
        if not meta.get("classes"):
            return sorted(ground_truth.names, key=lambda id_: (isinstance(id_, str), id_))
        by_name = {name: id_ for id_, name in ground_truth.names.items()}
        missing = [name for name in meta["classes"] if name not in by_name]
        if missing:
            raise DataError(
                f"class {missing[0]!r} of the dataset is not among the categories of {ground_truth.source}."
            )
        return [by_name[name] for name in meta["classes"]]


def _with_text(rles: Sequence[dict]) -> list[dict]:
    """RLEs with their counts as text, which JSON and every back end take."""
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]


def _records(results: list[dict], cat_ids: Sequence[int]) -> Iterator[dict]:
    """COCO results records."""
    for image in results:
        boxes = image["boxes"].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]  # corners -> x, y, width, height
        labels = image["labels"].tolist()
        if labels and not 0 <= min(labels) <= max(labels) < len(cat_ids):
            raise DataError(
                f"the model predicts class {max(labels)} and the dataset has {len(cat_ids)} classes; "
                "the model was made for another dataset."
            )
        for i, (box, score, label) in enumerate(zip(boxes.tolist(), image["scores"].tolist(), labels, strict=True)):
            record = {"image_id": image["img_id"], "category_id": cat_ids[label], "bbox": box, "score": score}
            if "masks" in image:
                record["segmentation"] = image["masks"][i]
            yield record


def write_results(path: str | os.PathLike, detections: list[dict]) -> None:
    """Write a COCO results JSON beside its name and move it over it, so that a torn file never bears the name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(detections, file)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
