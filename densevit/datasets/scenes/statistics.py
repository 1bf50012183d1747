"""Statistics of a set of scenes: sizes, occlusion and class frequencies of the objects."""

import numpy as np

from densevit.datasets.scenes.classes import OBJECT_CLASSES
from densevit.datasets.scenes.render import Scene

SMALL, LARGE = 32**2, 96**2  # COCO's limits, square pixels


def measure(scene: Scene) -> np.ndarray:
    """(N, 4) float64, one row an object: label, mask area, box area, visible fraction."""
    sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
    return np.stack([scene.labels, scene.masks.sum((1, 2)), sides.prod(1), scene.visible], axis=1).astype(np.float64)


def summary(measures: list[np.ndarray]) -> str:
    """A short table of the shares over scenes, from `measure` of each."""
    counts = np.array([len(rows) for rows in measures])
    labels, area, box_area, visible = np.concatenate(measures).T  # (N,) each
    small, large = area < SMALL, area >= LARGE
    lines = [
        f"scenes                          {len(counts)}",
        f"objects                         {len(labels)}, {counts.mean():.1f} a scene ({counts.min()}-{counts.max()})",
        f"small (COCO: area < 32^2 px)    {small.mean():.1%}   by the area of the box: {(box_area < SMALL).mean():.1%}",
        f"medium                          {(~small & ~large).mean():.1%}",
        f"large (area >= 96^2 px)         {large.mean():.1%}",
        f"more than 20% hidden            {(visible < 0.8).mean():.1%}",
        f"more than 50% hidden            {(visible < 0.5).mean():.1%}   least visible: {visible.min():.2f}",
    ]
    share = np.bincount(labels.astype(int), minlength=len(OBJECT_CLASSES)) / len(labels)
    lines += [f"  {name:<30}{part:.1%}" for name, part in zip(OBJECT_CLASSES, share, strict=True)]
    return "\n".join(lines)
