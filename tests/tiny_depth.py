"""A tiny tree of images and depth maps, each of which can be computed again."""

from pathlib import Path

import cv2
import numpy as np


def tiny_depth(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(H, W) whole millimeters from 500 to 9000 as float32 meters, a fifth of them holes."""
    random = np.random.default_rng(seed)
    depth = random.integers(500, 9000, size).astype(np.uint16)
    depth[random.random(size) < 0.2] = 0
    return depth.astype(np.float32) / 1000


def put_depth(path: Path, depth: np.ndarray, scale: float = 1000) -> None:
    """A map in meters as 16-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.round(depth * scale).astype(np.uint16))


def put_image(path: Path, seed: int, size: tuple[int, int] = (48, 64)) -> None:
    """A picture whose blue is the seed and whose green is the column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0], image[..., 1] = seed, np.arange(size[1]) % 256
    cv2.imwrite(str(path), image)


def make_tiny_depth(root: Path, count: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    """`rgb/NNN.png` and `depth/NNN.png`."""
    for seed in range(count):
        put_image(root / f"rgb/{seed:03}.png", seed, size)
        put_depth(root / f"depth/{seed:03}.png", tiny_depth(seed, size))
    return root


def tiny_depth_dataset(root: Path, **settings) -> dict:
    """The config of a dataset on `make_tiny_depth`'s tree."""
    steps = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackSample")]
    steps = [dict(step, type=f"densevit.{step['type']}") for step in settings.pop("pipeline", steps)]
    prefix = dict(img="rgb", depth="depth")
    config = dict(type="densevit.DepthDataset", data_root=str(root), data_prefix=prefix, depth_scale=1000)
    return {**config, "pipeline": steps, **settings}
