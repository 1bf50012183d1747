"""Depth maps as 16-bit PNG and NPY, read back by others' readers."""

import cv2
import numpy as np
import pytest
from PIL import Image

from densevit.errors import ConfigError, DataError
from densevit.ops.depth_files import depth_values, write_depth


def some_depth(size=(30, 40)):
    depth = np.random.default_rng(0).uniform(0.5, 9.5, size).astype(np.float32)
    depth[:3] = 0
    return depth


@pytest.mark.parametrize("per_meter", [1000, 256, 5000])
def test_a_png_gives_back_the_meters_within_half_a_step(tmp_path, per_meter):
    depth = some_depth()
    assert write_depth(tmp_path / "new" / "a.png", depth, per_meter=per_meter) == 0
    read = cv2.imread(str(tmp_path / "new" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16 and read.shape == depth.shape
    np.testing.assert_allclose(read / per_meter, depth, atol=0.5001 / per_meter)
    assert (read[:3] == 0).all() and (read[3:] > 0).all()
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.text["Description"] == f"depth: meters = value / {per_meter}, 0 = none"


def test_what_is_too_far_is_counted_and_set_to_the_farthest_value():
    depth = np.array([[65.535, 65.5354, 65.536, 100.0, 1e30]])
    values, cut = depth_values(depth)
    assert values.tolist() == [[65535] * 5] and cut == 3


def test_holes_are_zero_and_what_was_measured_is_not():
    depth = np.array([[0, -1, np.nan, np.inf, -np.inf, 1e-5, 2.0]])
    values, cut = depth_values(depth)
    assert values.tolist() == [[0, 0, 0, 0, 0, 1, 2000]] and cut == 0


def test_relative_depth_is_stretched_and_its_zero_is_no_hole():
    values, cut = depth_values(np.array([[0.0, 1.0, 3.0, np.nan, np.inf]]), "relative")
    assert values.tolist() == [[1, 1 + round(65534 / 3), 65535, 0, 0]] and cut == 0
    one = depth_values(np.full((2, 2), -4.0), "relative")[0]
    assert (one > 1).all() and (one < 65535).all()
    assert (depth_values(np.full((2, 2), np.nan), "relative")[0] == 0).all()


def test_a_png_of_relative_depth_says_so(tmp_path):
    write_depth(tmp_path / "a.png", some_depth(), "relative")
    with Image.open(tmp_path / "a.png") as image:
        assert "relative" in image.text["Description"] and "meter" not in image.text["Description"]


def test_an_npy_holds_meters_as_they_are_with_holes_of_zero(tmp_path):
    depth = some_depth()
    depth[5, :4] = np.nan, np.inf, -3, 1e6
    assert write_depth(tmp_path / "a.npy", depth) == 0
    read = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert read.dtype == np.float32 and read[5, :4].tolist() == [0, 0, 0, 1e6]
    assert np.array_equal(read[6:], depth[6:])
    write_depth(tmp_path / "b.npy", -depth, "relative")
    assert np.array_equal(np.load(tmp_path / "b.npy"), -depth, equal_nan=True)


@pytest.mark.parametrize("scale", [0, -1000, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    with pytest.raises(ConfigError, match="numbers a meter"):
        write_depth(tmp_path / "a.png", some_depth(), per_meter=scale)


def test_other_endings_and_places_that_cannot_be_written_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"\.png \(16 bits\)"):
        write_depth(tmp_path / "a.jpg", some_depth())
    (tmp_path / "file").write_text("")
    for name in ("a.png", "a.npy"):
        with pytest.raises(DataError, match="cannot be written"):
            write_depth(tmp_path / "file" / name, some_depth())
