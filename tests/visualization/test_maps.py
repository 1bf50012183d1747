"""Pixel classes over the image with a legend, panels side by side."""

import cv2
import numpy as np
import pytest

from densevit.visualization import class_color, draw_classes, side_by_side
from densevit.visualization.text import BACKGROUND

NAMES = ["wall", "floor", "traffic light", "café"]


def plates(drawn, height, label):
    """How many pixels of the legend below a picture `height` high have the class's own color."""
    return int((drawn[height:] == class_color(label)).all(2).sum())


def test_classes_lie_half_transparent_over_the_image_with_a_line_between():
    image = np.full((100, 200, 3), 80, np.uint8)
    class_map = np.zeros((100, 200), np.int64)
    class_map[:, 100:] = 1
    before = image.copy()
    drawn = draw_classes(image, class_map, NAMES, legend=False)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and (image == before).all()
    for x, label in ((20, 0), (180, 1)):
        np.testing.assert_allclose(drawn[50, x], (np.array(class_color(label)) + 80) / 2, atol=1)
    assert (drawn[:, 100] == BACKGROUND).all() and not (drawn[:, 98] == BACKGROUND).any()


def test_pixels_without_a_class_stay_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    class_map = np.full((60, 80), 255)
    assert (draw_classes(image, class_map, NAMES) == image).all()
    class_map[:30] = 2
    drawn = draw_classes(image, class_map, NAMES)
    assert (drawn[30:60] == image[30:]).all() and (drawn[:29] != image[:29]).any()


def test_the_legend_names_what_occurs_the_largest_first_and_hides_nothing():
    class_map = np.zeros((300, 400), np.int64)
    class_map[:, 100:] = 3
    class_map[:40, :40] = 1
    drawn = draw_classes(np.zeros((300, 400, 3), np.uint8), class_map, NAMES)
    assert drawn.shape[0] > 300 and drawn.shape[1:] == (400, 3)
    lefts = [int((drawn[300:] == class_color(k)).all(2).any(0).argmax()) for k in (3, 0, 1)]
    assert lefts == sorted(lefts) and lefts[0] == 0 and len(set(lefts)) == 3
    assert plates(drawn, 300, 2) == 0


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (7, 300), (480, 640), (1500, 2000)])
def test_any_size_and_any_number_of_classes_has_a_legend_of_bounded_height(size):
    class_map = np.arange(size[0] * size[1]).reshape(size) % 150
    drawn = draw_classes(np.zeros((*size, 3), np.uint8), class_map, [f"a class of things {k}" for k in range(150)])
    assert drawn.shape[1] == size[1]
    assert drawn.shape[0] - size[0] <= max(60, size[0] * 0.5)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="does not lie on"):
        draw_classes(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), int))


def test_panels_stand_side_by_side_as_they_are():
    red, blue = np.full((40, 60, 3), (0, 0, 255), np.uint8), np.full((70, 50, 3), (255, 0, 0), np.uint8)
    row = side_by_side([(red, "red"), (blue, "blue")], gap=8)
    assert row.shape[1] == 3 * 8 + 60 + 50
    assert (row == (0, 0, 255)).all(2).sum() == 40 * 60 and (row == (255, 0, 0)).all(2).sum() == 70 * 50
    tops = [int((row == color).all(2).any(1).argmax()) for color in ((0, 0, 255), (255, 0, 0))]
    assert tops[0] == tops[1] >= 14
    assert cv2.cvtColor(row[: tops[0]], cv2.COLOR_BGR2GRAY).min() < 150  # titles
