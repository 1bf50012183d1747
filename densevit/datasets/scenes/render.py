"""`render(seed, index, size)`: one picture of the world with four kinds of labels that agree to the pixel.

A pure function: the same arguments give the same bits in any process, at any time. Things are painted from far to near;
a pixel belongs to the nearest thing that covers more than half of it, and that one thing gives the pixel its instance,
its class and its depth. Depth is meters along the optical axis, as in NYU and KITTI; the sky has none and is 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from densevit.datasets.scenes import classes
from densevit.datasets.scenes.background import paint_surroundings
from densevit.datasets.scenes.layout import Stage, furnish, sample_camera, sample_room
from densevit.datasets.scenes.objects import CLUTTER_LABEL, Camera, Room, SceneObject, cast_shadow
from densevit.datasets.scenes.textures import color, grain, pattern, uneven


@dataclass
class Scene:
    """A rendered picture and its labels, N objects from far to near."""

    image: np.ndarray
    """(H, W, 3) uint8, BGR."""
    labels: np.ndarray
    """(N,) int64 classes, 0..11: indices into `classes.OBJECT_CLASSES`."""
    masks: np.ndarray
    """(N, H, W) bool, the visible pixels of each object."""
    boxes: np.ndarray
    """(N, 4) float32 xyxy pixels, the exact extent of each visible mask (x2 and y2 exclusive)."""
    visible: np.ndarray
    """(N,) float32, visible pixels over pixels of the whole silhouette (hidden and out of the picture)."""
    distances: np.ndarray
    """(N,) float32 meters at which each object stands: its farthest visible depth."""
    semantic: np.ndarray
    """(H, W) uint8, ids as in `world`: 1..18, ADE20K's form."""
    depth: np.ndarray
    """(H, W) float32 meters, 0 = none (sky)."""


def _surface(thing: SceneObject, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """How far the thing bulges at each pixel of its window, in pixels, and the mask it belongs to."""
    mask = thing.alpha > 127
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 5)
    height = thing.relief - np.minimum(inside, thing.relief)
    height = np.sqrt(np.maximum(np.float32(thing.relief**2) - height * height, 0))
    return height[rows, columns], mask[rows, columns]


def _lit(height: np.ndarray, light: tuple[float, float, float], ambient: float, gloss: float) -> np.ndarray:
    """Brightness of a relief under the light: ambient, diffuse and (for gloss > 0) a highlight."""
    reach = 3 if height.size < 2500 else 7  # large bodies are rounded more
    smooth = cv2.GaussianBlur(height, (reach, reach), 0)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    right, up, front = (np.float32(n) for n in light)
    facing = (front - dx * right + dy * up) / np.sqrt(1 + dx * dx + dy * dy)
    shade = np.float32(ambient) + np.float32(1.15 - ambient) * np.maximum(facing, 0)
    if gloss > 0:
        shade += np.float32(gloss) * np.maximum(facing, 0) ** 16
    return shade


def _paint_object(
    rng: np.random.Generator, camera: Camera, room: Room, thing: SceneObject, image: np.ndarray, depth: np.ndarray
) -> tuple[slice, slice, np.ndarray]:
    """Paint one thing over picture and depth; returns its window in the picture and its mask there."""
    rows, columns, inner_rows, inner_columns = thing.frame(camera)
    alpha = thing.alpha[inner_rows, inner_columns]
    parts = thing.parts[inner_rows, inner_columns]
    h, w = alpha.shape
    u = np.arange(w, dtype=np.float32)[None] / np.float32(thing.scale)
    v = np.arange(h, dtype=np.float32)[:, None] / np.float32(thing.scale)
    ink = color(rng, 6)  # two for each slot
    weight = pattern(rng, u, v, rng.uniform(0.12, 0.4))
    gloss = rng.uniform(0.2, 0.5) if rng.random() < 0.4 else 0.0
    ambient = rng.uniform(0.4, 0.6)
    paint = ink[:, :3][:, parts] + (ink[:, 3:] - ink[:, :3])[:, parts] * weight
    if thing.label == CLUTTER_LABEL and (thing.deck or thing.relief == 0):
        mask = alpha > 127
        front = ambient + 0.5 * max(room.light[2], 0)
        shade = np.where(parts == 1, np.float32(ambient + 0.55 * room.light[1]), np.float32(front))
        own = np.full((h, w), thing.near, np.float32)
        if thing.deck:
            below = np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - camera.v0
            level = camera.focal * (camera.eye - thing.deck) / np.maximum(below, 1e-3)
            level = np.clip(level, thing.near, thing.z)[:, None]
            own = np.where(parts == 1, level, own).astype(np.float32)
    else:
        height, mask = _surface(thing, inner_rows, inner_columns)
        shade = _lit(height, room.light, ambient, gloss)
        own = np.float32(thing.z) - height * np.float32(1 / thing.scale)
    paint *= shade
    cover = alpha.astype(np.float32) * np.float32(1 / 255)
    under = image[:, rows, columns]
    under += (paint - under) * cover
    # the lowest pixels reach half a pixel below the line on which the thing stands: there the ground is as near as it
    beneath = depth[rows, columns]
    np.minimum(own, beneath, out=beneath, where=mask)
    return rows, columns, mask


def _camera_look(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Uneven light, white balance, blur, noise: float (3, H, W) in, uint8 (H, W, 3) out."""
    height, width = image.shape[1:]
    glow = np.float32(0.75) + np.float32(0.4) * uneven(rng, height, width)
    gain = rng.uniform(0.9, 1.1, 3) * rng.uniform(0.95, 1.35)
    for plane, factor in zip(image, gain, strict=True):
        plane *= glow
        plane *= np.float32(factor)
    image = cv2.merge(list(image))
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 0.9) * width / 256)
    image += grain(rng, height, width) * np.float32(rng.uniform(1.5, 8.0))
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _labels(stage: Stage, order: list[int], base: np.ndarray, depth: np.ndarray, image: np.ndarray) -> Scene:
    """Cut all labels from the one map of owners."""
    objects = [index for index in order if stage.things[index].label != CLUTTER_LABEL]
    to_class = np.zeros(len(stage.things) + 1, np.uint8)
    for index, thing in enumerate(stage.things):
        to_class[index + 1] = classes.CLUTTER if thing.label == CLUTTER_LABEL else thing.label + 1
    semantic = np.where(stage.owner >= 0, to_class[stage.owner + 1], base)
    masks = stage.owner[None] == np.array(objects, np.int16)[:, None, None]
    boxes = np.zeros((len(objects), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Scene(
        image=image,
        labels=np.array([stage.things[index].label for index in objects], np.int64),
        masks=masks,
        boxes=boxes,
        visible=np.array([stage.seen[index] / stage.full[index] for index in objects], np.float32),
        distances=np.array([stage.things[index].z for index in objects], np.float32),
        semantic=semantic,
        depth=depth,
    )


def render(seed: int, index: int, size: tuple[int, int] = (256, 256)) -> Scene:
    """Scene number `index` of the world `seed` (both >= 0), `size` = (height, width) pixels, each at least 64."""
    height, width = size
    if min(height, width) < 64:
        raise ValueError(f"a scene is at least 64 x 64 pixels, not {height} x {width}")
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    camera = sample_camera(rng, height, width)
    room = sample_room(rng, camera)
    stage = furnish(rng, camera, room)
    shadows = [outline for thing in stage.things for outline in cast_shadow(camera, room, thing)]
    image, base, depth = paint_surroundings(rng, camera, room, shadows)
    order = sorted(range(len(stage.things)), key=lambda index: -stage.things[index].z)
    for index_of_object in order:
        _paint_object(rng, camera, room, stage.things[index_of_object], image, depth)
    depth[np.isinf(depth)] = 0
    return _labels(stage, order, base, depth, _camera_look(rng, image))
