"""Depth in colors: kinds, limits, holes, and the scale below."""

import numpy as np
import pytest
import torch

from densevit.structures import DataSample
from densevit.visualization import SmoothedRange, depth_limits, draw_depth, draw_ground_truth_and_prediction
from densevit.visualization.depth import NO_DEPTH, meter_ticks
from densevit.visualization.text import INK


def test_what_is_no_map_is_refused():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        draw_depth(np.zeros((4, 5, 3)))


def test_near_is_warm_far_is_cold_and_none_is_gray():
    depth = np.linspace(1, 10, 200, dtype=np.float32)[None].repeat(100, 0)
    depth[:20] = 0
    depth[20:30] = np.nan
    drawn = draw_depth(depth, scale=False).astype(int)
    assert drawn.shape == (100, 200, 3)
    assert (drawn[:30] == NO_DEPTH).all()
    blue, _, red = drawn[50].T
    assert red[5] > 100 > blue[5] and blue[150] > 150 > red[150]


def test_equal_limits_give_two_maps_the_same_colors():
    near, far = np.full((20, 20), 2.0), np.full((20, 20), 8.0)
    both = np.hstack([near, far])
    apart = [draw_depth(d, (1, 10), scale=False) for d in (near, far)]
    assert (np.hstack(apart) == draw_depth(both, (1, 10), scale=False)).all()


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (7, 300), (300, 7), (480, 640), (1500, 2000)])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_maps_of_one_value_and_of_none_have_a_picture_too(size, value):
    drawn = draw_depth(np.full(size, value))
    assert drawn.shape[0] > size[0] and drawn.shape[1] == size[1]
    assert ((drawn[: size[0]] == NO_DEPTH).all()) == (value == 0)


def test_the_scale_stands_below_with_a_mark_at_each_tick():
    depth = np.geomspace(1, 100, 640)[None].repeat(480, 0)
    bar = draw_depth(depth, (1, 100))[480:]
    marks = [round(639 * np.log(tick) / np.log(100)) for tick in (1, 2, 5, 10, 20, 50, 100)]
    for mark in marks:
        assert (bar[:, mark] == INK).all(1).any()
    assert not (bar[:, 300] == INK).all(1).any() or 300 in marks


@pytest.mark.parametrize(
    ("near", "far", "ticks"),
    [
        (0.9, 25, [1, 2, 5, 10, 20]),
        (2, 7, [2, 3, 4, 5, 6, 7]),
        (3, 3.05, [3, 3.01, 3.02, 3.03, 3.04, 3.05]),
        (0.02, 0.3, [0.02, 0.05, 0.1, 0.2]),
        (30, 90, [30, 40, 50, 60, 70, 80, 90]),
    ],
)
def test_ticks_are_round_numbers(near, far, ticks):
    assert meter_ticks(near, far) == ticks


def test_relative_depth_is_warm_where_it_is_large_and_nothing_but_what_is_no_number_is_gray():
    depth = np.linspace(-3, 5, 200, dtype=np.float32)[None].repeat(100, 0)
    depth[0], depth[1], depth[2] = 0, np.nan, np.inf
    drawn = draw_depth(depth, scale=False, kind="relative")
    assert (drawn[1:3] == NO_DEPTH).all() and not (drawn[0] == NO_DEPTH).all(1).any()
    blue, _, red = drawn[50].astype(int).T
    assert red[195] > 100 > blue[195] and blue[40] > 150 > red[40]


def test_colors_of_relative_depth_do_not_know_its_scale_and_shift():
    depth = np.random.default_rng(0).uniform(0, 1, (40, 60))
    drawn = draw_depth(depth, kind="relative")
    np.testing.assert_allclose(draw_depth(300 * depth - 70, kind="relative").astype(int), drawn, atol=1)


def test_the_scale_of_relative_depth_runs_from_near_to_far_without_a_mark():
    depth = np.linspace(9, 1, 640)[None].repeat(480, 0)
    bar = draw_depth(depth, kind="relative")[480:].astype(int)
    assert bar[8, 3, 2] > 100 > bar[8, 3, 0]  # near, at the left, is warm
    ink = (bar[-25:] < 150).all(2).any(0)
    assert ink[:150].any() and ink[-150:].any() and not ink[200:440].any()
    meters = draw_depth(10 - depth)[480:]
    assert (meters == INK).all(2).sum() > 3 * (bar == INK).all(2).sum()  # numbers and marks


@pytest.mark.parametrize("value", [0.0, -2.0, 1e-30, 1e6])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7)])
def test_relative_depth_of_one_value_lies_between_near_and_far(size, value):
    drawn = draw_depth(np.full(size, value), kind="relative")
    assert drawn.shape[0] > size[0]
    assert (drawn[: size[0]] == drawn[0, 0]).all() and not (drawn[0, 0] == NO_DEPTH).all()


def test_a_map_of_no_number_has_no_limits_and_a_gray_picture():
    for kind in ("metric", "relative"):
        depth = np.full((30, 40), np.nan)
        assert depth_limits(depth, kind) is None
        assert (draw_depth(depth, scale=False, kind=kind) == NO_DEPTH).all()


def test_single_measurements_of_a_laser_are_drawn_larger_the_nearer_one_above():
    depth = np.zeros((50, 60))
    depth[10, 10], depth[30, 30], depth[30, 32] = 5, 2, 8
    drawn = draw_depth(depth, (1, 10), scale=False)
    color = {meters: draw_depth(np.full((1, 1), meters), (1, 10), scale=False)[0, 0] for meters in (2, 5, 8)}
    assert (drawn[9:12, 9:12] == color[5]).all() and (drawn == color[5]).all(2).sum() == 9
    assert (drawn[30, 31] == color[2]).all() and (drawn[30, 32] == color[8]).all()
    assert (drawn[8, 10] == NO_DEPTH).all()


@pytest.mark.parametrize(("kind", "values"), [("metric", (1, 8)), ("relative", (-4, 9))])
def test_limits_of_a_video_follow_slowly_and_arrive(kind, values):
    rng = np.random.default_rng(0)
    frame = rng.uniform(*values, (40, 50))
    frames = [frame * factor for factor in [1.0] + 200 * [1.4]]
    steady = SmoothedRange(kind, frames=20)
    followed = np.array([steady(frame) for frame in frames])
    first, last = (np.array(depth_limits(frame, kind)) for frame in (frames[0], frames[-1]))
    assert np.array_equal(followed[0], first)
    assert np.abs(np.diff(followed, axis=0)).max() < 0.1 * np.abs(last - first).max()
    np.testing.assert_allclose(followed[-1], last, rtol=0.01)


def test_frames_without_depth_leave_a_videos_limits_as_they_are():
    steady, nothing = SmoothedRange(), np.zeros((4, 5))
    assert steady(nothing) is None
    limits = steady(np.full((4, 5), 2.0))
    assert limits[0] < 2 < limits[1] and steady(nothing) == limits


def sample_of(ground_truth, predicted, **meta):
    sample = DataSample(metainfo={"img_shape": ground_truth.shape, **meta})
    sample.original_depth, sample.pred_depth = torch.from_numpy(ground_truth), torch.from_numpy(predicted)
    return sample


def test_ground_truth_and_prediction_share_one_scale_and_holes_of_the_ground_truth_are_gray():
    ground_truth = np.linspace(1, 9, 60, dtype=np.float32)[None].repeat(40, 0)
    predicted = ground_truth[:, ::-1].copy()
    predicted[:, :30] *= 50  # farther than anything true: as far as can be shown
    holes = ground_truth.copy()
    holes[:20] = 0
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    (shown, _), (true, said), (found, title) = draw_ground_truth_and_prediction(
        image, sample_of(holes, predicted), side=60
    )
    assert said == "ground truth: depth, 1.0 to 9.0 m" and title == "prediction: depth" and (shown == image).all()
    assert (true[:20] == NO_DEPTH).all() and not (found == NO_DEPTH).all(2).any()
    assert (true[30, ::-1][30:] == found[30, 30:]).all()
    assert (found[:, :30] == draw_depth(np.full((1, 1), 9.0), (1, 9), scale=False)[0, 0]).all()


def test_a_relative_prediction_beside_meters_has_colors_of_its_own():
    ground_truth = np.linspace(1, 9, 60, dtype=np.float32)[None].repeat(40, 0)
    sample = sample_of(ground_truth, 5 / ground_truth - 3, depth_kind="relative")
    _, (true, _), (found, title) = draw_ground_truth_and_prediction(np.zeros((40, 60, 3), np.uint8), sample, side=60)
    assert "relative" in title and " m" not in title
    for drawn in (true, found):  # near at the left
        assert drawn[20, 2, 2] > 100 > drawn[20, 2, 0] and drawn[20, -8, 0] > drawn[20, -8, 2]


def test_a_true_map_without_a_measurement_is_gray_beside_the_prediction():
    sample = sample_of(np.zeros((40, 60), np.float32), np.full((40, 60), 3, np.float32))
    _, (true, title), (found, _) = draw_ground_truth_and_prediction(np.zeros((40, 60, 3), np.uint8), sample, side=60)
    assert title == "ground truth: depth" and (true == NO_DEPTH).all() and not (found == NO_DEPTH).any(2).all()
