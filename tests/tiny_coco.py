"""A drawn COCO tree of a few small images, for tests of anything that reads one."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

COLORS = [(40, 40, 220), (60, 200, 60), (220, 90, 40), (40, 210, 230), (200, 60, 200), (210, 210, 60)]


def make_tiny_coco(
    root: str | Path,
    train: int = 8,
    val: int = 4,
    size: tuple[int, int] = (64, 80),
    classes: int = 3,
    seed: int = 0,
    crowds: int = 0,
    empty: int = 0,
) -> Path:
    """Write annotations/instances_{train,val}2017.json, train2017/ and val2017/ below `root`.

    Each image of `size` (height, width) shows one to three ellipses on a gray ground, the color telling the class; the
    polygons are their outlines. Category ids have holes (1, 3, 5 ...). The first `crowds` images of each part also hold
    a crowd (RLE), the last `empty` ones hold nothing. Returns `root`.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    first_id = 1
    for part, count in (("train2017", train), ("val2017", val)):
        (root / part).mkdir(exist_ok=True)
        images, annotations = [], []
        for location in range(count):
            image_id = first_id + location
            objects = 0 if location >= count - empty else int(rng.integers(1, 4))
            picture, found = _draw(rng, size, classes, objects)
            if location < crowds:
                found.append(_crowd(size))
            name = f"{image_id:012d}.png"
            cv2.imwrite(str(root / part / name), picture)
            images.append(dict(id=image_id, file_name=name, height=size[0], width=size[1]))
            for annotation in found:
                annotation.update(id=len(annotations) + 1, image_id=image_id)
                annotations.append(annotation)
        first_id += count
        categories = [dict(id=2 * label + 1, name=f"class {label}") for label in range(classes)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def tiny_dataset(root: str | Path, part: str = "train2017", **settings) -> dict:
    """Config of a CocoDataset on a part of the tree; its pipeline loads and packs unless `settings` say otherwise."""
    masks = settings.get("with_masks", False)
    pipeline = [dict(type="LoadImage"), dict(type="LoadAnnotations", with_masks=masks), dict(type="PackSample")]
    config = dict(
        type="densevit.CocoDataset",
        data_root=str(root),
        ann_file=f"annotations/instances_{part}.json",
        data_prefix=dict(img=part),
        pipeline=[dict(step, type=f"densevit.{step['type']}") for step in settings.pop("pipeline", pipeline)],
    )
    return dict(config, **settings)


def edit_annotations(root: str | Path, edit, part: str = "train2017") -> Path:
    """Let `edit(content)` change a part's JSON in place; returns its path."""
    path = Path(root) / "annotations" / f"instances_{part}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def _draw(rng: np.random.Generator, size: tuple[int, int], classes: int, objects: int) -> tuple[np.ndarray, list[dict]]:
    height, width = size
    picture = rng.integers(110, 146, (height, width, 3), dtype=np.uint8)
    found = []
    for column in rng.permutation(3)[:objects]:  # a column each, so that none hides another
        label = int(rng.integers(classes))
        a, b = rng.uniform(0.6, 0.95) * width / 6, rng.uniform(0.35, 0.95) * height / 2
        center = np.array([(column + 0.5) * width / 3, rng.uniform(b, height - b)])
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        outline = np.round(center + np.stack([a * np.cos(angles), b * np.sin(angles)], axis=1), 2)
        cv2.fillPoly(picture, [np.round(outline - 0.5).astype(np.int32)], COLORS[label % len(COLORS)])
        low, extent = outline.min(axis=0), np.ptp(outline, axis=0)
        x, y = outline.T
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        found.append(
            dict(
                category_id=2 * label + 1,
                bbox=[round(float(v), 2) for v in (*low, *extent)],
                area=round(float(area), 2),
                segmentation=[outline.ravel().tolist()],
                iscrowd=0,
            )
        )
    return picture, found


def _crowd(size: tuple[int, int]) -> dict:
    """The lower right quarter as a crowd of the first class, in uncompressed RLE."""
    height, width = size
    bitmap = np.zeros(size, dtype=np.uint8, order="F")
    bitmap[height // 2 :, width // 2 :] = 1
    flat = bitmap.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert coco_mask.area(coco_mask.frPyObjects(dict(size=list(size), counts=counts), *size)) == bitmap.sum()
    box = [width // 2, height // 2, width - width // 2, height - height // 2]
    segmentation = dict(size=list(size), counts=counts)
    return dict(category_id=1, bbox=box, area=int(bitmap.sum()), segmentation=segmentation, iscrowd=1)
