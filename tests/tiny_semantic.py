"""A drawn tree of a few small images with class maps, for tests of anything that reads one."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("ground", "disc", "bar")
COLORS = ((128, 128, 128), (220, 40, 40), (60, 200, 60))  # red, green, blue


def make_tiny_semantic(root: str | Path, train: int = 6, val: int = 3, size: tuple[int, int] = (48, 64)) -> Path:
    """Write images/{train,val}/NAME.png, labels/{train,val}/NAME.png (values 0-2, 255 in one corner) and classes.txt.

    Each image of `size` (height, width) shows its classes in their colors. Returns `root`.
    """
    root = Path(root)
    for part, count in (("train", train), ("val", val)):
        (root / "images" / part).mkdir(parents=True, exist_ok=True)
        (root / "labels" / part).mkdir(parents=True, exist_ok=True)
        for location in range(count):
            classes = tiny_map(size, seed=location + 100 * (part == "val"))
            name = f"{part}_{location:03d}.png"
            picture = np.array([*COLORS, (0, 0, 0)], np.uint8)[np.minimum(classes, 3)]
            cv2.imwrite(str(root / "images" / part / name), picture[..., ::-1])
            cv2.imwrite(str(root / "labels" / part / name), classes)
    (root / "classes.txt").write_text(
        "".join(f"{n} {r} {g} {b}\n" for n, (r, g, b) in zip(CLASSES, COLORS, strict=True))
    )
    return root


def tiny_map(size: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """A class map (H, W) uint8 with all three classes and an ignored corner of 2 x 3 pixels."""
    rng = np.random.default_rng(seed)
    height, width = size
    classes = np.zeros(size, np.uint8)
    cv2.circle(classes, (int(rng.integers(8, width // 2)), int(rng.integers(8, height - 8))), 7, 1, -1)
    left = int(rng.integers(width // 2 + 8, width - 6))
    classes[4 : height - 4, left : left + 5] = 2
    classes[:2, :3] = 255
    return classes


def tiny_semantic_dataset(root: str | Path, part: str = "train", **settings) -> dict:
    """Config of a SemanticDataset on a part of the tree; the pipeline loads and packs unless told otherwise."""
    pipeline = settings.pop("pipeline", [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackSample")])
    config = dict(
        type="densevit.SemanticDataset",
        classes="classes.txt",
        data_root=str(root),
        data_prefix=dict(img=f"images/{part}", seg=f"labels/{part}"),
        pipeline=[dict(step, type=f"densevit.{step['type']}") for step in pipeline],
    )
    return dict(config, **settings)
