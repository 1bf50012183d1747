"""A scene's labels in COCO's instances form.

Polygons run along pixel edges, so that rasterizing them gives the mask back, pixel for pixel. A mask with a hole, which
polygons cannot say, becomes an RLE of plain counts.
"""

from collections.abc import Iterable

import numpy as np

from densevit.datasets.scenes.classes import CATEGORY_IDS, OBJECT_CLASSES
from densevit.datasets.scenes.render import Scene
from densevit.ops.masks import outlines


def categories() -> list[dict]:
    """COCO's `categories`: ids with holes, in label order."""
    return [
        {"id": number, "name": name, "supercategory": "object"}
        for number, name in zip(CATEGORY_IDS, OBJECT_CLASSES, strict=True)
    ]


def mask_to_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed RLE of a (H, W) bool mask: run lengths down the columns, beginning with background."""
    flat = np.asfortranarray(mask).ravel(order="F")  # (H * W,) column by column
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], change, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def mask_to_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """Outlines of a (h, w) bool mask along its pixel edges, [x, y, x, y, ...] each; None where it has a hole."""
    rings, holes = outlines(mask)
    return None if any(holes) else [ring.ravel().tolist() for ring in rings]  # (n, 2) -> x, y, x, y, ...


def segmentation(mask: np.ndarray, box: np.ndarray) -> list | dict:
    """COCO's `segmentation` of a (H, W) visible mask with extent `box` (xyxy)."""
    left, top, right, bottom = (int(n) for n in box)
    polygons = mask_to_polygons(np.ascontiguousarray(mask[top:bottom, left:right]))
    if polygons is None:
        return mask_to_rle(mask)
    return [[n + (top if index % 2 else left) for index, n in enumerate(polygon)] for polygon in polygons]


def coco_annotations(scene: Scene, image_id: int, kinds: Iterable[str] = ("boxes", "masks")) -> list[dict]:
    """COCO's `annotations` of one scene; ids are 100 * image_id + 1, 2, ...; without "masks" no segmentation."""
    found = []
    for index, (label, mask, box) in enumerate(zip(scene.labels, scene.masks, scene.boxes, strict=True), start=1):
        left, top, right, bottom = (int(n) for n in box)
        annotation = {
            "id": 100 * image_id + index,
            "image_id": image_id,
            "category_id": CATEGORY_IDS[label],
            "bbox": [left, top, right - left, bottom - top],
            "area": int(np.count_nonzero(mask)),
            "iscrowd": 0,
        }
        if "masks" in kinds:
            annotation["segmentation"] = segmentation(mask, box)
        found.append(annotation)
    return found
