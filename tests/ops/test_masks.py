"""ops/masks against pycocotools on the whole image, brute force and shapely."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from densevit.ops import masks

SIZE = (60, 90)


def star(rng, points=9, centre=(45, 30), low=8, high=28):
    """A ragged outline, always simple."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(low, high, points)
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + centre, 2)


def whole_image(polygons, size):
    """pycocotools' own bitmap."""
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], *size)))


def square(x, y, w, h):
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=float)


def test_rasterised_polygons_equal_pycocotools_pixel_by_pixel():
    rng = np.random.default_rng(0)
    for _ in range(200):
        polygons = [star(rng, centre=rng.uniform(-10, 90, 2)) for _ in range(rng.integers(1, 4))]
        assert np.array_equal(masks.rasterise([polygons], SIZE)[0], whole_image(polygons, SIZE))


def test_rasterise_takes_bitmaps_and_empty_masks():
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap[3:7, 5:11] = 1
    filled = masks.rasterise([bitmap, [], [square(200, 200, 5, 5)]], SIZE)
    assert filled.dtype == bool and filled.shape == (3, *SIZE)
    assert np.array_equal(filled[0], bitmap.astype(bool))
    assert not filled[1:].any()
    assert masks.rasterise([], SIZE).shape == (0, *SIZE)


def test_flip_of_polygons_is_flip_of_pixels():
    polygons = [square(10, 5, 20, 30), square(50, 20, 7, 11)]
    flipped = masks.rasterise([masks.flip_mask(polygons, SIZE[1])], SIZE)[0]
    assert np.array_equal(flipped, masks.rasterise([polygons], SIZE)[0][:, ::-1])
    bitmap = masks.rasterise([polygons], SIZE)[0].astype(np.uint8)
    assert np.array_equal(masks.flip_mask(bitmap, SIZE[1]), bitmap[:, ::-1])


def test_resized_polygons_and_bitmaps_scale_alike():
    new = (120, 180)
    polygons = [square(10, 5, 20, 30)]
    big = masks.rasterise([masks.resize_mask(polygons, SIZE, new)], new)[0]
    assert big[10:70, 20:60].all() and big.sum() == 60 * 40
    bitmap = masks.rasterise([polygons], SIZE)[0].astype(np.uint8)
    assert np.array_equal(masks.resize_mask(bitmap, SIZE, new), big)


def test_crop_of_polygons_is_crop_of_pixels_but_for_the_rounding_of_cut_edges():
    rng = np.random.default_rng(1)
    different = total = 0
    for _ in range(100):
        polygons = [star(rng, centre=rng.uniform(10, 70, 2)) for _ in range(2)]
        x, y = rng.integers(0, 40), rng.integers(0, 25)
        height, width = rng.integers(15, 35, 2)
        cut = masks.rasterise([masks.crop_mask(polygons, x, y, (height, width))], (height, width))[0]
        expected = masks.rasterise([polygons], SIZE)[0][y : y + height, x : x + width]
        assert (cut != expected).sum() <= 6  # new corners are rounded to a fifth of a pixel
        different, total = different + (cut != expected).sum(), total + expected.size
    assert different / total < 2e-3


def test_crop_leaves_whole_polygons_exactly_as_they_are_and_drops_those_outside():
    inside, outside = square(20, 10, 5, 5), square(70, 40, 9, 9)
    cropped = masks.crop_mask([inside, outside], 15, 5, (20, 20))
    assert len(cropped) == 1 and np.array_equal(cropped[0], inside - (15, 5))


@pytest.mark.parametrize("seed", range(5))
def test_clipped_area_equals_shapely(seed):
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(seed)
    window = shapely.box(0, 0, 40, 30)
    for _ in range(50):
        outline = star(rng, points=12, centre=rng.uniform(-10, 50, 2), low=3, high=30)
        x, y = masks.clip_polygon(outline, 40, 30).T
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        assert area == pytest.approx(shapely.Polygon(outline).intersection(window).area, abs=1e-9)


def test_clipping_keeps_the_even_odd_filling_of_an_outline_that_crosses_itself():
    bow_tie = np.array([[-20, 5], [50, 45], [50, 5], [-20, 45.0]])
    cut = masks.rasterise([masks.crop_mask([bow_tie], 0, 0, (30, 40))], (30, 40))[0]
    expected = whole_image([bow_tie], SIZE)[:30, :40]
    assert (cut != expected).mean() < 0.01 and 0.1 < expected.mean() < 0.9


def test_padding_behind_a_crop_shows_nothing_of_what_was_cut_off():
    cropped = masks.crop_mask([square(20, 10, 40, 40)], 10, 5, (20, 20))
    padded = masks.rasterise([masks.pad_mask(cropped, (50, 60))], (50, 60))[0]
    assert not padded[20:].any() and not padded[:, 20:].any() and padded[5:20, 10:20].all()
    bitmap = np.ones((20, 20), np.uint8)
    assert masks.pad_mask(bitmap, (50, 60)).sum() == 400


def test_rle_compressed_and_not_decode_alike():
    bitmap = np.zeros(SIZE, np.uint8, order="F")
    bitmap[7:20, 30:55] = 1
    packed = coco_mask.encode(bitmap)
    text = dict(packed, counts=packed["counts"].decode())
    flat = bitmap.ravel(order="F")
    runs = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    for rle in (packed, text, dict(size=list(SIZE), counts=runs)):
        assert np.array_equal(masks.decode_rle(rle), bitmap)


def test_boxes_around_bitmaps():
    bitmaps = np.zeros((2, *SIZE), bool)
    bitmaps[0, 7:20, 30:55] = True
    assert masks.bitmap_boxes(bitmaps).tolist() == [[30, 7, 55, 20], [0, 0, 0, 0]]


def test_polygons_that_enclose_nothing_are_left_out():
    kept = masks.valid_polygons([[0, 0, 5, 0, 5, 5], [1, 2, 3, 4], [0, 0, 5, 0, 5, 5, 1]])
    assert len(kept) == 1 and kept[0].shape == (3, 2)
