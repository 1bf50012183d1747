"""A contact sheet of scenes: picture, boxes and masks, class map, depth."""

import cv2
import numpy as np

from densevit.datasets.scenes.classes import OBJECT_CLASSES, SEMANTIC_CLASSES
from densevit.datasets.scenes.render import Scene

_CELL = 256


def palette() -> np.ndarray:
    """(19, 3) uint8 BGR, one color a semantic id; hues of objects go round the circle, surroundings are greyish."""
    hues = np.arange(len(OBJECT_CLASSES)) * 180 // len(OBJECT_CLASSES)
    vivid = np.stack([hues, np.full_like(hues, 190), 255 - 70 * (hues % 2)], axis=1).astype(np.uint8)
    objects = cv2.cvtColor(vivid[None], cv2.COLOR_HSV2BGR)[0]
    stuff = [(70, 95, 120), (60, 60, 150), (135, 135, 135), (200, 190, 180), (235, 200, 160), (40, 40, 40)]
    return np.concatenate([[(0, 0, 0)], objects, stuff]).astype(np.uint8)


def _text(image: np.ndarray, words: str, x: int, y: int) -> None:
    cv2.putText(image, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (255, 255, 255), 1, cv2.LINE_AA)


def _with_instances(scene: Scene, zoom: float, size: tuple[int, int]) -> np.ndarray:
    colors = palette()
    image = scene.image.copy()
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        image[mask] = (image[mask] * 0.45 + colors[label + 1] * 0.55).astype(np.uint8)
    image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    for label, box in zip(scene.labels, scene.boxes, strict=True):
        left, top, right, bottom = (int(n) for n in np.rint(box * zoom))
        color = tuple(int(n) for n in colors[label + 1])
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), color, 1)
        _text(image, OBJECT_CLASSES[label], min(left + 2, size[0] - 48), max(top - 3, 10))
    return image


def _depth_in_color(depth: np.ndarray) -> np.ndarray:
    """Near red, far blue, none black; even in 1/depth over 1.5 to 14 m, the same for every scene."""
    with np.errstate(divide="ignore"):
        nearness = (1 / depth - 1 / 14) / (1 / 1.5 - 1 / 14)
    colors = cv2.applyColorMap((np.clip(nearness, 0, 1) ** 0.6 * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colors[depth <= 0] = 0
    return colors


def row(scene: Scene) -> np.ndarray:
    """(256, about 1024, 3) uint8 BGR: the four kinds of labels of one scene side by side."""
    zoom = _CELL / scene.image.shape[0]
    size = (round(scene.image.shape[1] * zoom), _CELL)
    cells = [
        scene.image,
        _with_instances(scene, zoom, size),
        palette()[scene.semantic],
        _depth_in_color(scene.depth),
    ]
    return np.hstack([cv2.resize(cell, size, interpolation=cv2.INTER_NEAREST) for cell in cells])


def contact_sheet(scenes: list[Scene]) -> np.ndarray:
    """Scenes in two columns of four pictures each, under a legend of the class map; uint8 BGR."""
    rows = [row(scene) for scene in scenes]
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    sheet = np.vstack([np.hstack(rows[location : location + 2]) for location in range(0, len(rows), 2)])
    legend = np.full((22, sheet.shape[1], 3), 30, np.uint8)
    step = sheet.shape[1] / len(SEMANTIC_CLASSES)
    for location, name in enumerate(SEMANTIC_CLASSES):
        left = int(location * step)
        cv2.rectangle(legend, (left + 4, 5), (left + 15, 16), tuple(int(n) for n in palette()[location + 1]), -1)
        _text(legend, name, left + 20, 15)
    return np.vstack([legend, sheet])
