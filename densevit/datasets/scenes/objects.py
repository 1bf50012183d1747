"""The camera, the room, and the things that stand in it, each rasterized in a window of its own.

Coordinates: X to the right, Y up from the floor, Z along the optical axis, meters, from a point on the floor under the
camera. The camera looks level and its picture is shifted up or down (a view camera), so that uprights stay upright and
a thing that stands at Z keeps one scale, focal / Z. Pixel (u, v) covers [u, u + 1) x [v, v + 1).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from densevit.datasets.scenes import shapes

CLUTTER_LABEL = -1


@dataclass(frozen=True)
class Camera:
    """A pinhole: `focal` in pixels, `u0`/`v0` the vanishing point of the view (v0 is the horizon), `eye` meters up."""

    height: int
    width: int
    focal: float
    u0: float
    v0: float
    eye: float

    def ceiling_gap(self, room: "Room") -> float:
        """Meters from the eye up to the ceiling."""
        return room.ceiling - self.eye

    def project(self, x: np.ndarray, y: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
        """(n, 2) pixel coordinates of points in the world."""
        scale = self.focal / z
        pixels = np.empty((len(x), 2))
        pixels[:, 0] = self.u0 + scale * x
        pixels[:, 1] = self.v0 + scale * (self.eye - y)
        return pixels


@dataclass(frozen=True)
class Room:
    """A back wall at `back`, side walls at `left` < 0 < `right`, a ceiling; those of a yard are infinitely far."""

    back: float
    left: float
    right: float
    ceiling: float
    wall_top: float  # height of the back wall of a yard, meters
    light: tuple[float, float, float]  # unit vector towards the light: right, up, towards the camera

    @property
    def indoors(self) -> bool:
        return bool(np.isfinite(self.ceiling))


@dataclass
class SceneObject:
    """One silhouette at depth `z` that bulges towards the camera up to `near`; alpha and parts are its own window.

    The window starts at pixel (left, top) and may reach beyond the picture; `frame` cuts both to what is inside.
    """

    label: int
    z: float
    near: float
    left: int
    top: int
    alpha: np.ndarray  # (h, w) uint8 cover
    parts: np.ndarray  # (h, w) uint8 slot of each pixel's paint
    relief: float  # how far it may bulge, pixels
    scale: float  # pixels a meter at z
    keep: float  # this share of the silhouette must stay visible
    body: list[np.ndarray]  # outlines in meters, (n, 3), for the shadow
    deck: float = 0.0  # a box's height, meters: its slot 1 is a level top between near and z

    def frame(self, camera: Camera) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the picture, then the same of the window; empty slices where it is outside."""
        h, w = self.alpha.shape
        y0, y1 = max(self.top, 0), min(self.top + h, camera.height)
        x0, x1 = max(self.left, 0), min(self.left + w, camera.width)
        y1, x1 = max(y0, y1), max(x0, x1)
        return (
            slice(y0, y1),
            slice(x0, x1),
            slice(y0 - self.top, y1 - self.top),
            slice(x0 - self.left, x1 - self.left),
        )


def _draw(outlines: list[np.ndarray], slots: list[int]) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Rasterize a shape: left, top, cover (h, w) uint8 and slot (h, w) uint8 in a window of its own."""
    every = np.concatenate(outlines)
    left, top = (int(n) for n in np.floor(every.min(0)) - 1)
    right, bottom = (int(n) for n in np.ceil(every.max(0)) + 1)
    alpha = np.zeros((bottom - top, right - left), np.uint8)
    parts = np.zeros_like(alpha)
    # OpenCV counts from pixel centers, with 4 bits of fraction here
    for outline, slot in zip(outlines, slots, strict=True):
        fixed = np.rint((outline - (left + 0.5, top + 0.5)) * 16).astype(np.int32)[None]
        cv2.fillPoly(alpha, fixed, 0 if slot == shapes.HOLE else 255, cv2.LINE_AA, 4)
        if slot != shapes.HOLE:
            cv2.fillPoly(parts, fixed, slot, cv2.LINE_8, 4)
    return left, top, alpha, parts


def cast_shadow(camera: Camera, room: Room, thing: SceneObject) -> list[np.ndarray]:
    """Where the light throws a thing on the floor: outlines in pixels."""
    right, up, front = room.light
    points = np.concatenate(thing.body)
    x, y, z = points.T  # (n,) each
    far = np.maximum(z + y * (front / up), 0.4)
    flat = camera.project(x - y * (right / up), 0.0, far)
    return _split(flat, thing.body)


def _split(points: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    """Cut concatenated points into pieces as long as those of `like`."""
    pieces, start = [], 0
    for piece in like:
        pieces.append(points[start : start + len(piece)])
        start += len(piece)
    return pieces


def stand(
    camera: Camera,
    room: Room,
    shape: shapes.Shape,
    *,
    label: int,
    bulge: float,
    size: float,
    x: float,
    z: float,
    ground: float = 0.0,
    squeeze: float = 1.0,
    keep: float = 0.0,
) -> SceneObject:
    """A shape `size` meters large, set at (x, z) on a ground `ground` meters high; `squeeze` < 0 mirrors it."""
    outlines = [outline for outline, _ in shape]
    points = np.concatenate(outlines) * (size * squeeze, size) + (x, ground)
    pixels = camera.project(points[:, 0], points[:, 1], z)
    left, top, alpha, parts = _draw(_split(pixels, outlines), [slot for _, slot in shape])
    solid = np.concatenate([points, np.full((len(points), 1), z)], axis=1)
    scale = camera.focal / z
    return SceneObject(
        label,
        z,
        z - bulge * size,
        left,
        top,
        alpha,
        parts,
        relief=bulge * size * scale,
        scale=scale,
        keep=keep,
        body=[piece for piece, (_, slot) in zip(_split(solid, outlines), shape, strict=True) if slot != shapes.HOLE],
    )


def crate(camera: Camera, room: Room, *, x: float, near: float, far: float, width: float, height: float) -> SceneObject:
    """Clutter: a box seen head on, its front at `near`, with a level top where the camera looks over it."""
    edges = np.array([x - width / 2, x + width / 2])
    front = camera.project(edges[[0, 1, 1, 0]], np.array([0, 0, height, height]), near)
    back = camera.project(edges, np.full(2, height), far)
    outlines, slots = [front], [0]
    if back[0, 1] < front[2, 1]:
        outlines.append(np.stack([front[3], front[2], back[1], back[0]]))
        slots.append(1)
    left, top, alpha, parts = _draw(outlines, slots)
    # each wall throws its own shadow, and they overlap to the box's
    lower, upper = (0.0, 0.0), (height, height)
    walls = [(edges, (near, near)), (edges, (far, far)), (edges[[0, 0]], (near, far)), (edges[[1, 1]], (near, far))]
    body = [
        np.array([*zip(xs, lower, zs, strict=True), *zip(xs[::-1], upper, zs[::-1], strict=True)]) for xs, zs in walls
    ]
    return SceneObject(
        CLUTTER_LABEL,
        far,
        near,
        left,
        top,
        alpha,
        parts,
        relief=0.0,
        scale=camera.focal / near,
        keep=0.0,
        body=body,
        deck=height if len(outlines) > 1 else 0.0,
    )
