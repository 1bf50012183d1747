"""The picture of a confusion matrix, and what is read off it."""

import json

import cv2
import numpy as np
import pytest

from densevit.errors import DataError
from densevit.visualization.confusion_matrix import draw_confusion_matrix, greatest_confusions, read_matrix, shares

NAMES = ["sky", "road", "car"]
MATRIX = np.array([[80, 20, 0], [0, 0, 0], [1, 3, 6]])


def test_rows_are_shares_of_their_pixels():
    part = shares(MATRIX)
    np.testing.assert_allclose(part[[0, 2]], [[0.8, 0.2, 0], [0.1, 0.3, 0.6]])
    assert np.isnan(part[1]).all()


def test_the_greatest_confusions_come_first_and_right_pixels_are_none():
    assert greatest_confusions(MATRIX, NAMES) == [
        ("sky", "road", 0.2, 20), ("car", "road", 0.3, 3), ("car", "sky", 0.1, 1)
    ]  # fmt: skip
    assert greatest_confusions(np.diag([3, 4, 5]), NAMES) == []


def test_what_is_written_is_read_and_anything_else_refused_in_a_sentence(tmp_path):
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps({"classes": NAMES, "matrix": MATRIX.tolist()}))
    matrix, names = read_matrix(path)
    assert np.array_equal(matrix, MATRIX) and names == NAMES
    for text in ("{", "[1]", json.dumps({"classes": NAMES, "matrix": [[1]]}), '{"classes": [], "matrix": []}'):
        path.write_text(text)
        with pytest.raises(DataError, match="is no confusion matrix"):
            read_matrix(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path / "none.json")


def cells(path, count):
    """The colors (R, G, B) of the matrix's cells: its area is the largest square of the picture without white."""
    picture = cv2.imread(str(path))[..., ::-1].astype(int)
    dark = (picture.sum(2) < 740).mean(1)
    rows = np.flatnonzero(dark > 0.5 * dark.max())
    columns = np.flatnonzero((picture[rows].sum(2) < 740).mean(0) > 0.95)
    columns = columns[: np.flatnonzero(np.diff(columns, append=10**6) > 1)[0] + 1]  # not the scale beside it
    (top, bottom), (left, right) = (rows[0], rows[-1]), (columns[0], columns[-1])
    locations = (np.arange(count) + 0.25) / count  # beside the values
    return picture[
        np.ix_((top + locations * (bottom - top)).astype(int), (left + locations * (right - left)).astype(int))
    ]


@pytest.mark.parametrize("repeat", [1, 12])
def test_a_picture_shows_small_shares_and_greys_classes_that_are_not_there(tmp_path, repeat):
    names = [f"{name} {i}" for i in range(repeat) for name in NAMES]
    draw_confusion_matrix(np.kron(np.eye(repeat, dtype=int), MATRIX), names, tmp_path / "deep" / "picture.png")
    seen = cells(tmp_path / "deep" / "picture.png", len(names))
    assert np.abs(seen[1] - 217).max() <= 4  # gray
    brightness = seen.sum(2)
    assert brightness[0, 0] > brightness[0, 1] > brightness[0, 2] and brightness[2, 0] > brightness[0, 2] + 30


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(DataError, match="no ending of a picture"):
        draw_confusion_matrix(MATRIX, NAMES, tmp_path / "picture.txt")
