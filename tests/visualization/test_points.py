"""Pictures of points in space: what is where, and what hides what."""

import numpy as np
import pytest

from densevit.visualization import draw_points
from densevit.visualization.points import BEHIND

RED, GREEN, BLUE = (0, 0, 255), (0, 255, 0), (255, 0, 0)


def wall(z, reach, color, count=60):
    x, y = np.meshgrid(np.linspace(-reach, reach, count), np.linspace(-reach, reach, count))
    points = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3)
    return points, np.tile(np.array(color, np.uint8), (len(points), 1))


def share(picture, color):
    return (picture == color).all(2).mean()


def middle_column(picture, color):
    return np.flatnonzero((picture == color).all(2).any(0)).mean()


def joined(*parts):
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def test_the_nearer_wall_hides_the_farther_one_in_any_order():
    near, far = wall(2, 0.5, RED, count=200), wall(4, 2, BLUE, count=250)
    first, second = (draw_points(*joined(*pair), turn=0, tilt=0) for pair in ((near, far), (far, near)))
    assert (first == second).all()
    height, width = first.shape[:2]
    assert (first[height // 2, width // 2] == RED).all()
    assert share(first, RED) == pytest.approx(0.25, abs=0.05) and share(first, BLUE) > 0.5  # 0.5 / 2 against 2 / 4


def test_from_the_right_what_is_near_moves_to_the_left_and_from_above_down():
    cloud = joined(wall(2, 0.2, RED), wall(4, 2, BLUE), wall(4, 2, BLUE))
    columns = [middle_column(draw_points(*cloud, turn=turn, tilt=0), RED) / 800 for turn in (-20, 0, 20)]
    assert columns[0] > columns[1] + 0.05 and columns[2] < columns[1] - 0.05
    rows = [middle_column(p.transpose(1, 0, 2), RED) / p.shape[0] for p in (draw_points(*cloud, 0, t) for t in (0, 20))]
    assert rows[1] > rows[0] + 0.05


def test_sides_are_not_flipped_and_down_is_down():
    points = np.array([[-1, -1, 3], [1, -1, 3], [-1, 1, 3], [1, 1, 3.0]])
    drawn = draw_points(points.repeat(50, 0), np.array([RED, GREEN, BLUE, (9, 9, 9)], np.uint8).repeat(50, 0), 0, 0)
    height, width = drawn.shape[:2]
    halves = {}
    for color in (RED, GREEN, BLUE, (9, 9, 9)):
        rows, columns = np.nonzero((drawn == color).all(2))
        halves[color] = (rows.mean() > height / 2, columns.mean() > width / 2)
    assert list(halves.values()) == [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("side", [64, 800])
def test_a_wall_has_no_gaps_and_fills_the_picture(side):
    drawn = draw_points(*wall(3, 1, GREEN, count=200), turn=0, tilt=0, side=side)
    assert max(drawn.shape) == pytest.approx(side, abs=2) and drawn.dtype == np.uint8
    assert share(drawn, GREEN) > 0.8
    inner = drawn[side // 4 : -side // 4, side // 4 : -side // 4]
    assert (inner == GREEN).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_have_a_picture_too(count):
    drawn = draw_points(np.ones((count, 3)), np.full((count, 3), 255, np.uint8))
    assert (drawn == BEHIND).all() == (count == 0)
