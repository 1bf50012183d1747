"""Layout of a scene: a random camera and room, and objects placed so that each stays visible enough to be learned."""

import numpy as np

from densevit.datasets.scenes import shapes
from densevit.datasets.scenes.objects import CLUTTER_LABEL, Camera, Room, SceneObject, crate, stand

# An object is placed only if it covers this share of the picture to the end (118 pixels of 256x256) ...
MIN_VISIBLE_AREA = 0.0018
# ... and if so much of its silhouette stays visible: most stand free, some may be half hidden. Together with natural
# overlaps this leaves about a third of the objects more than 20% hidden.
STANDS_FREE, MAY_HIDE, SHARE_STANDING_FREE = 0.8, 0.35, 0.35
MIN_OBJECTS, MAX_OBJECTS = 3, 12


def sample_camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    return Camera(
        height,
        width,
        focal=width * rng.uniform(0.95, 1.35),
        u0=width * rng.uniform(0.4, 0.6),
        v0=height * rng.uniform(0.16, 0.42),
        eye=rng.uniform(1.1, 2.0),
    )


def sample_room(rng: np.random.Generator, camera: Camera) -> Room:
    turn, up, front = rng.uniform(-1, 1), rng.uniform(0.7, 1.3), rng.uniform(-0.2, 0.8)
    light = np.array([turn, up, front]) / np.sqrt(turn**2 + up**2 + front**2)
    towards = (float(light[0]), float(light[1]), float(light[2]))
    back = rng.uniform(5.0, 9.0)
    if rng.random() < 0.55:
        half = camera.width / camera.focal / 2 * back
        return Room(
            back,
            left=-half * rng.uniform(0.6, 1.5),
            right=half * rng.uniform(0.6, 1.5),
            ceiling=camera.eye + rng.uniform(0.7, 1.9),
            wall_top=np.inf,
            light=towards,
        )
    wall = rng.uniform(0.5, 1.2) * camera.eye
    return Room(back * rng.uniform(1.0, 1.5), -np.inf, np.inf, np.inf, wall, towards)


class Stage:
    """Things placed so far, and which of them is visible at each pixel. One that would break the rules above is
    rejected."""

    def __init__(self, camera: Camera, room: Room) -> None:
        self.camera, self.room = camera, room
        self.things: list[SceneObject] = []
        self.owner = np.full((camera.height, camera.width), -1, np.int16)  # index into things
        self.depth = np.full((camera.height, camera.width), np.inf, np.float32)  # z of the owner
        self.full: list[int] = []  # pixels of each whole silhouette, beyond the picture too
        self.seen: list[int] = []  # visible pixels
        self.least = MIN_VISIBLE_AREA * camera.height * camera.width

    def _allowed(self, thing: SceneObject, seen: int, full: int) -> bool:
        return thing.label == CLUTTER_LABEL or (seen >= self.least and seen >= thing.keep * full)

    def try_place(self, thing: SceneObject, on: int | None = None) -> bool:
        """Place `thing` (on the crate with index `on`), or leave the stage as it is and return False."""
        rows, columns, inner_rows, inner_columns = thing.frame(self.camera)
        h, w = thing.alpha.shape
        # Where two things overlap in the picture they must not overlap in depth: then painting from far to near
        # is right at each pixel, bulges included.
        for index, other in enumerate(self.things):
            if (
                index != on
                and thing.near < other.z + 0.02
                and other.near < thing.z + 0.02
                and thing.left < other.left + other.alpha.shape[1]
                and other.left < thing.left + w
                and thing.top < other.top + other.alpha.shape[0]
                and other.top < thing.top + h
            ):
                return False
        mask = thing.alpha > 127
        full = int(np.count_nonzero(mask))
        depth, owner = self.depth[rows, columns], self.owner[rows, columns]
        won = mask[inner_rows, inner_columns] & (depth > thing.z)
        seen = int(np.count_nonzero(won))
        if seen == 0 or not self._allowed(thing, seen, full):
            return False
        lost = np.bincount(owner[won] + 1, minlength=len(self.things) + 1)[1:]
        for index in np.flatnonzero(lost):
            if not self._allowed(self.things[index], self.seen[index] - int(lost[index]), self.full[index]):
                return False
        for index in np.flatnonzero(lost):
            self.seen[index] -= int(lost[index])
        owner[won] = len(self.things)
        depth[won] = thing.z
        self.things.append(thing)
        self.full.append(full)
        self.seen.append(seen)
        return True


def _spot(rng: np.random.Generator, stage: Stage, reach: float, bulge: float) -> tuple[float, float]:
    """A position (x, z) for a new thing: anywhere, or before or behind one that stands already.

    The thing is at most `reach` to the left and right of x and bulges by `bulge`, meters: walls keep that distance.
    """
    camera, room = stage.camera, stage.room
    nearest = camera.focal * camera.eye / (camera.height - camera.v0)
    last = room.back - 0.15
    first = min(nearest * 1.02 + bulge, last)  # a thing that bulges more than the room is deep stands at its back
    objects = [thing for thing in stage.things if thing.label != CLUTTER_LABEL]
    if objects and rng.random() < 0.4:
        other = objects[int(rng.integers(len(objects)))]
        behind = rng.random() < 0.5
        z = other.z * rng.uniform(1.1, 1.5) if behind else other.near * rng.uniform(0.72, 0.96)
        w = other.alpha.shape[1]
        u = other.left + w / 2 + rng.uniform(-0.75, 0.75) * w
        z = float(np.clip(z, first, last))
    else:
        # between even in depth (many far ones) and even in 1/depth (many near ones)
        z = 1 / rng.uniform(1 / last, 1 / first) if rng.random() < 0.75 else rng.uniform(first, last)
        u = rng.uniform(0.03, 0.97) * camera.width
    x = (u - camera.u0) * z / camera.focal
    if room.indoors:
        x = float(np.clip(x, room.left + reach, room.right - reach))
    return x, z


def _add_object(rng: np.random.Generator, stage: Stage) -> bool:
    label = int(rng.integers(len(shapes.OBJECTS)))
    build, bulge = shapes.OBJECTS[label]
    size = float(np.exp(rng.uniform(np.log(0.6), np.log(1.8))))
    x, z = _spot(rng, stage, 0.66 * size, bulge * size)  # a plinth may be wider than the object
    squeeze = rng.uniform(0.86, 1.1) * (1 if rng.random() < 0.5 else -1)
    keep = STANDS_FREE if rng.random() < SHARE_STANDING_FREE else MAY_HIDE
    shape = build(rng)
    on, ground = None, 0.0
    if rng.random() < 0.12:
        ground = rng.uniform(0.2, 0.7)
        deep = bulge * size + rng.uniform(0.15, 0.4)
        plinth = crate(
            stage.camera,
            stage.room,
            x=x,
            near=z - deep,
            far=z + 0.15,
            width=size * rng.uniform(0.8, 1.3),
            height=ground,
        )
        if z + 0.2 < stage.room.back and stage.try_place(plinth):
            on = len(stage.things) - 1
        else:
            ground = 0.0
    thing = stand(
        stage.camera,
        stage.room,
        shape,
        label=label,
        bulge=bulge,
        size=size,
        x=x,
        z=z,
        ground=ground,
        squeeze=squeeze,
        keep=keep,
    )
    return stage.try_place(thing, on)


def _add_clutter(rng: np.random.Generator, stage: Stage) -> bool:
    kind = int(rng.integers(0, 4))
    size = rng.uniform(0.35, 0.8)
    x, z = _spot(rng, stage, 0.95, 0.1)  # a plank is the widest
    if kind == 0:
        deep = rng.uniform(0.3, 0.7)
        if z + deep > stage.room.back - 0.1:
            return False
        return stage.try_place(
            crate(stage.camera, stage.room, x=x, near=z, far=z + deep, width=size, height=rng.uniform(0.2, 0.7))
        )
    if kind == 1:  # a post
        half, tall = rng.uniform(0.03, 0.08), rng.uniform(1.2, 3.0)
        shape, bulge, size = [(shapes.box(-half, 0, half, tall), 0)], half, 1.0
    elif kind == 2:  # a plank on edge
        half, tall = rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.28)
        shape, bulge, size = [(shapes.box(-half, 0, half, tall), 0)], 0.03, 1.0
    else:
        shape, bulge = shapes.rubble(rng), 0.15
    return stage.try_place(
        stand(stage.camera, stage.room, shape, label=CLUTTER_LABEL, bulge=bulge, size=size, x=x, z=z)
    )


def furnish(rng: np.random.Generator, camera: Camera, room: Room) -> Stage:
    """Put MIN_OBJECTS..MAX_OBJECTS objects and some clutter on an empty stage."""
    wanted = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    clutter = int(rng.integers(0, 4))
    stage = Stage(camera, room)
    objects = 0
    for _ in range(3 * wanted):
        objects += _add_object(rng, stage)
        if objects == wanted:
            break
    for _ in range(clutter):
        _add_clutter(rng, stage)
    while objects < MIN_OBJECTS:  # a rare crowd: other positions are drawn until there is room
        objects += _add_object(rng, stage)
    return stage
