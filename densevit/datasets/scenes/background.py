"""The background: floor, walls, ceiling, sky and the shadows on the floor."""

import cv2
import numpy as np

from densevit.datasets.scenes import classes
from densevit.datasets.scenes.objects import Camera, Room
from densevit.datasets.scenes.textures import muted, pattern


def _mixed(rng: np.random.Generator, weight: np.ndarray, contrast: float) -> np.ndarray:
    """(3, h, w) float32: a pattern in two muted colors."""
    return blend(muted(rng), muted(rng), weight * np.float32(contrast))


def blend(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(3, h, w): from color `one` (3,) at weight 0 to `other` at 1."""
    return one[:, None, None] + (other - one)[:, None, None] * weight


def _faded(weight: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """A pattern whose period covers few `pixels` goes over into its mean, as it would in a camera."""
    return np.float32(0.5) + (weight - np.float32(0.5)) * np.clip(pixels * np.float32(0.25) - 1, 0, 1)


def _level(rng: np.random.Generator, camera: Camera, rx: np.ndarray, z: np.ndarray, contrast: float) -> np.ndarray:
    """Paint of a level surface; rows at depths z (r,), columns along rays rx (w,)."""
    period = rng.uniform(0.35, 1.1)
    z = z[:, None]
    weight = pattern(rng, rx[None] * z, z, period)
    return _mixed(rng, _faded(weight, np.float32(period * camera.focal) / z), contrast)


def _rug(rng: np.random.Generator, camera: Camera, room: Room) -> list[np.ndarray]:
    """Corners in pixels of a rug and of its inner field, or nothing."""
    if rng.random() < 0.5:
        return []
    near, deep, wide = rng.uniform(1.8, room.back - 1.5), rng.uniform(1.0, 2.0), rng.uniform(0.8, 1.8)
    x = np.clip(rng.uniform(-1.5, 1.5), max(room.left, -50) + wide, min(room.right, 50) - wide)
    turn, border = rng.uniform(-0.5, 0.5), 0.12
    outlines = []
    for cut in (0.0, border):
        a, b = wide - cut, deep / 2 - cut
        corners = np.array([(-a, -b), (a, -b), (a, b), (-a, b)])
        cos, sin = np.cos(turn), np.sin(turn)
        corners = corners @ np.array([(cos, sin), (-sin, cos)]) + (x, near + deep / 2)
        corners[:, 1] = np.clip(corners[:, 1], 0.5, room.back)
        outlines.append(camera.project(corners[:, 0], np.zeros(4), corners[:, 1]))
    return outlines


def _fill(shape: tuple[int, int], outlines: list[np.ndarray], value: int = 255) -> np.ndarray:
    """Draw outlines (pixels; far outside is cut to what OpenCV's fixed point can hold) into a uint8 map."""
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        fixed = np.rint((np.clip(outline, -4000, 4000) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(canvas, fixed[None], value, cv2.LINE_8, 4)
    return canvas


def _sky(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """A smooth course from one bright color to another, (3, rows, width)."""
    top = np.array([rng.uniform(170, 250), rng.uniform(120, 210), rng.uniform(80, 200)], np.float32)
    low = top + rng.uniform(0, 0.8) * (np.float32(245) - top)
    course = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    return np.broadcast_to(blend(top, low, course), (3, rows, width))


def paint_surroundings(
    rng: np.random.Generator, camera: Camera, room: Room, shadows: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The empty stage: image (3, H, W) float32 BGR, semantic ids (H, W) uint8, depth (H, W) float32 meters.

    The sky is infinitely far.
    """
    height, width = camera.height, camera.width
    focal = np.float32(camera.focal)
    ry = (np.arange(height, dtype=np.float32) + np.float32(0.5 - camera.v0)) / focal
    rx = (np.arange(width, dtype=np.float32) + np.float32(0.5 - camera.u0)) / focal
    with np.errstate(divide="ignore"):
        level = np.where(ry > 0, np.float32(camera.eye) / ry, np.float32(camera.ceiling_gap(room)) / -ry)
        side = np.where(rx > 0, np.float32(room.right) / rx, np.float32(room.left) / rx)
    back = np.float32(room.back)
    is_level = level < back
    floor_from = height - int(np.count_nonzero(is_level & (ry > 0)))
    ceiling_to = int(np.count_nonzero(is_level & (ry < 0)))
    sides = side < back
    left_to = int(np.count_nonzero(sides & (rx < 0)))
    right_from = width - int(np.count_nonzero(sides & (rx > 0)))

    depth = np.minimum(np.minimum(level, back)[:, None], np.minimum(side, back)[None])
    semantic = np.full((height, width), classes.WALL, np.uint8)
    image = np.empty((3, height, width), np.float32)
    sun = np.array(room.light, np.float32)
    ambient = rng.uniform(0.55, 0.75)

    # the back wall, then what stands before it
    up = np.float32(camera.eye) - ry[:, None] * back
    period = rng.uniform(0.4, 1.6)
    weight = pattern(rng, rx[None] * back, up[:floor_from], period)
    image[:, :floor_from] = _mixed(rng, weight, 0.6) * np.float32(ambient + 0.35 * max(sun[2], 0))
    if room.indoors and (left_to or right_from < width):
        paper = (muted(rng), muted(rng), rng.uniform(0.4, 1.6))
        state = int(rng.integers(1 << 31))
        for columns, facing in ((slice(0, left_to), sun[0]), (slice(right_from, width), -sun[0])):
            far = side[columns]
            if not len(far):
                continue
            weight = pattern(
                np.random.Generator(np.random.PCG64(state)),
                far[None],
                np.float32(camera.eye) - ry[:, None] * far[None],
                paper[2],
            )
            shade = np.float32(ambient + 0.35 * max(facing, 0))
            image[:, :, columns] = blend(paper[0], paper[1], weight * np.float32(0.6)) * shade
    if not room.indoors:
        skyline = np.float32(room.wall_top) + _skyline(rng, width)
        sky = up[:floor_from] > skyline[None]
        cut = int(np.count_nonzero(sky.any(1)))
        np.copyto(image[:, :cut], _sky(rng, cut, width), where=sky[:cut])
        semantic[:floor_from][sky] = classes.SKY
        depth[:floor_from][sky] = np.inf

    if ceiling_to:
        paint = _level(rng, camera, rx, level[:ceiling_to], 0.4) * np.float32(ambient + 0.1)
        mine = level[:ceiling_to, None] < side[None]
        np.copyto(image[:, :ceiling_to], paint, where=mine)
        semantic[:ceiling_to][mine] = classes.CEILING
    paint = _level(rng, camera, rx, level[floor_from:], 0.7)
    mine = level[floor_from:, None] < side[None]
    ground = np.full(mine.shape, classes.FLOOR, np.uint8)
    rug = _rug(rng, camera, room)
    if rug:
        field = _fill((height, width), rug[:1])[floor_from:] > 0
        inner = _fill((height, width), rug[1:])[floor_from:] > 0
        np.copyto(paint, muted(rng)[:, None, None], where=field)
        woven = _level(rng, camera, rx, level[floor_from:], 1.0)
        np.copyto(paint, woven, where=inner)
        ground[field] = classes.RUG
    shadow = _fill((height, width), shadows)[floor_from:]
    soft = cv2.GaussianBlur(shadow, (0, 0), 1.2 * width / 256) if shadow.size else shadow  # no floor in the picture
    dark = np.float32(rng.uniform(0.35, 0.6) / 255)
    paint *= np.float32(ambient + 0.35 * sun[1]) * (1 - soft.astype(np.float32) * dark)
    np.copyto(image[:, floor_from:], paint, where=mine)
    np.copyto(semantic[floor_from:], ground, where=mine)
    return image, semantic, depth


def _skyline(rng: np.random.Generator, width: int) -> np.ndarray:
    """(width,) float32 meters to add to the top of a yard's wall: level, or hills."""
    if rng.random() < 0.4:
        return np.zeros(width, np.float32)
    at = np.arange(width, dtype=np.float32) / np.float32(width)
    waves = sum(rng.uniform(0.05, 0.4) / n * np.sin(2 * np.pi * n * at + rng.uniform(0, 6)) for n in (1, 2, 5))
    return waves.astype(np.float32)
