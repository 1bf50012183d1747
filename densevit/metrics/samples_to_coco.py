"""COCO annotations made of the samples' ground truth, for datasets that have no annotation file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec

from densevit.errors import ConfigError, DataError
from densevit.ops.masks import encode_bitmaps


def ground_truth_objects(sample: dict) -> dict[str, Any]:
    """Ground truth of one sample in the frame of its original image.

    `gt_instances` and, as crowds, `ignored_instances` come in the frame of the network's input: a flipped image is
    flipped back, a resize undone. Coordinates are rounded to thousandths of a pixel against float32's errors, so that a
    box with so many digits is exact. A mask is exact where the image was enlarged or kept its size; where it shrank,
    the nearest pixel left stands for those that were lost.

    Returns:
        size (height, width), boxes (N, 4) float64 as x, y, width, height, labels (N,), crowds (N,) bool and, where
        the ground truth has masks, masks: N COCO RLEs.
    """
    if sample.get("gt_instances") is None:
        raise ConfigError(
            "CocoMetric knows no annotations: give it ann_file, a dataset that states its own, or a test pipeline "
            "that loads gt_instances."
        )
    parts = [sample["gt_instances"], sample.get("ignored_instances")]
    parts = [part for part in parts if part is not None]
    # (N, 4) of both parts
    boxes = np.concatenate([array(part["bboxes"]).reshape(-1, 4) for part in parts]).astype(np.float64)
    labels = np.concatenate([array(part["labels"]) for part in parts])
    crowds = np.arange(len(labels)) >= len(array(parts[0]["labels"]))
    if sample.get("flip"):
        boxes[:, [0, 2]] = sample["img_shape"][1] - boxes[:, [2, 0]]
    boxes /= np.tile(sample.get("scale_factor", (1.0, 1.0)), 2)  # (x, y) -> x, y, x, y
    boxes = boxes.round(3)
    boxes[:, 2:] = (boxes[:, 2:] - boxes[:, :2]).round(3)
    size = tuple(sample["ori_shape"])
    ground_truth = {"size": size, "boxes": boxes, "labels": labels, "crowds": crowds}
    if all("masks" in part for part in parts):
        ground_truth["masks"] = [
            rle
            for part in parts
            for i in range(0, len(part["masks"]), 64)
            for rle in encode_bitmaps(_original_frame(array(part["masks"][i : i + 64]), sample, size))
        ]
    return ground_truth


def _original_frame(bitmaps: np.ndarray, sample: dict, size: tuple[int, int]) -> np.ndarray:
    """(N, h, w) masks in the frame of the network's input, without its padding, unmirrored, in the original's size."""
    height, width = sample.get("img_shape", size)
    bitmaps = bitmaps[:, :height, :width]
    if sample.get("flip"):
        bitmaps = bitmaps[:, :, ::-1]
    for axis, (now, before) in enumerate(zip((height, width), size, strict=True), 1):
        pixels = np.arange(before) * (now / before)
        # a pixel that the transforms' enlargement (nearest, rounded down) made of each; else the nearest there is
        pixels = np.ceil(pixels + 1e-6) if now > before else pixels.round()
        bitmaps = bitmaps.take(np.minimum(pixels.astype(int), now - 1), axis=axis)
    return bitmaps


def annotations_of(results: list[dict], names: Sequence[str], cat_ids: Sequence[int]) -> dict[str, list]:
    """COCO's instances format of records with `img_id` and `ground_truth` (see `ground_truth_objects`).

    An area is that of the mask, or where there is none that of the box.
    """
    images, annotations = [], []
    for image in results:
        ground_truth = image["ground_truth"]
        images.append({"id": image["img_id"], "height": ground_truth["size"][0], "width": ground_truth["size"][1]})
        masks = ground_truth.get("masks") or [None] * len(ground_truth["labels"])
        columns = (ground_truth["boxes"].tolist(), ground_truth["labels"].tolist(), ground_truth["crowds"], masks)
        for box, label, crowd, mask in zip(*columns, strict=True):
            if not 0 <= label < len(cat_ids):
                raise DataError(
                    f"image {image['img_id']!r} has an object of class {label}, and the dataset has "
                    f"{len(cat_ids)} classes; check the labels that it gives."
                )
            annotations.append({
                "id": len(annotations) + 1, "image_id": image["img_id"], "category_id": cat_ids[label], "bbox": box,
                "area": box[2] * box[3] if mask is None else int(rle_codec.area(mask)), "iscrowd": int(crowd),
            })  # fmt: skip
            if mask is not None:
                annotations[-1]["segmentation"] = mask
    categories = [{"id": id_, "name": name} for id_, name in zip(cat_ids, names, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def array(values: Any) -> np.ndarray:
    """A tensor, wherever it lies, or a list as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
