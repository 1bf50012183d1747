"""ops/masks against pycocotools on the whole image, brute force and shapely."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from densevit.errors import DataError
from densevit.ops import masks
from densevit.ops.coco_rle import decode_runs

SIZE = (60, 90)


def star(rng, points=9, center=(45, 30), low=8, high=28):
    """A ragged outline, always simple."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(low, high, points)
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None] + center, 2)


def whole_image(polygons, size):
    """pycocotools' own bitmap."""
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], *size)))


def square(x, y, w, h):
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=float)


def test_rasterized_polygons_equal_pycocotools_pixel_by_pixel():
    rng = np.random.default_rng(0)
    for _ in range(200):
        polygons = [star(rng, center=rng.uniform(-10, 90, 2)) for _ in range(rng.integers(1, 4))]
        assert np.array_equal(masks.rasterize([polygons], SIZE)[0], whole_image(polygons, SIZE))


def test_rasterize_takes_bitmaps_and_empty_masks():
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap[3:7, 5:11] = 1
    filled = masks.rasterize([bitmap, [], [square(200, 200, 5, 5)]], SIZE)
    assert filled.dtype == bool and filled.shape == (3, *SIZE)
    assert np.array_equal(filled[0], bitmap.astype(bool))
    assert not filled[1:].any()
    assert masks.rasterize([], SIZE).shape == (0, *SIZE)


def test_flip_of_polygons_is_flip_of_pixels():
    polygons = [square(10, 5, 20, 30), square(50, 20, 7, 11)]
    flipped = masks.rasterize([masks.flip_mask(polygons, SIZE[1])], SIZE)[0]
    assert np.array_equal(flipped, masks.rasterize([polygons], SIZE)[0][:, ::-1])
    bitmap = masks.rasterize([polygons], SIZE)[0].astype(np.uint8)
    assert np.array_equal(masks.flip_mask(bitmap, SIZE[1]), bitmap[:, ::-1])


def test_resized_polygons_and_bitmaps_scale_alike():
    new = (120, 180)
    polygons = [square(10, 5, 20, 30)]
    big = masks.rasterize([masks.resize_mask(polygons, SIZE, new)], new)[0]
    assert big[10:70, 20:60].all() and big.sum() == 60 * 40
    bitmap = masks.rasterize([polygons], SIZE)[0].astype(np.uint8)
    assert np.array_equal(masks.resize_mask(bitmap, SIZE, new), big)


def test_crop_of_polygons_is_crop_of_pixels_but_for_the_rounding_of_cut_edges():
    rng = np.random.default_rng(1)
    different = total = 0
    for _ in range(100):
        polygons = [star(rng, center=rng.uniform(10, 70, 2)) for _ in range(2)]
        x, y = rng.integers(0, 40), rng.integers(0, 25)
        height, width = rng.integers(15, 35, 2)
        cut = masks.rasterize([masks.crop_mask(polygons, x, y, (height, width))], (height, width))[0]
        expected = masks.rasterize([polygons], SIZE)[0][y : y + height, x : x + width]
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
        outline = star(rng, points=12, center=rng.uniform(-10, 50, 2), low=3, high=30)
        x, y = masks.clip_polygon(outline, 40, 30).T
        area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        assert area == pytest.approx(shapely.Polygon(outline).intersection(window).area, abs=1e-9)


def test_clipped_pixels_equal_shapely_also_where_an_outline_falls_apart():
    shapely = pytest.importorskip("shapely")
    rng, window, apart = np.random.default_rng(0), shapely.box(0, 0, 40, 30), 0
    for _ in range(400):
        outline = star(rng, points=14, center=rng.uniform(-10, 50, 2), low=3, high=30)
        if not shapely.Polygon(outline).is_valid:
            continue
        cut = shapely.Polygon(outline).intersection(window)
        pieces = [p for p in getattr(cut, "geoms", [cut]) if p.geom_type == "Polygon" and not p.is_empty]
        expected = masks.rasterize([[np.array(p.exterior.coords)[:-1] for p in pieces]], (30, 40))
        assert np.array_equal(masks.rasterize([masks.crop_mask([outline], 0, 0, (30, 40))], (30, 40)), expected)
        apart += len(pieces) > 1
    assert apart > 20


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_of_a_crop_are_those_of_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    whole = np.zeros(SIZE, bool)
    bottom, right = rng.integers(1, SIZE[0] + 1), rng.integers(1, SIZE[1] + 1)
    top, left = rng.integers(0, bottom), rng.integers(0, right)
    if seed % 2:  # columns from border to border, whose runs go on in the next
        top, bottom = 0, SIZE[0]
    whole[top:bottom, left:right] = rng.random((bottom - top, right - left)) < (0.5, 0.97, 1.0)[seed % 3]
    rle = masks.crop_rle(whole[top:bottom, left:right].T, int(left), int(top), SIZE)
    assert [rle] == masks.encode_bitmaps(whole[None])


@pytest.mark.parametrize("seed", range(10))
def test_outlines_filled_even_odd_are_the_bitmap(seed):
    bitmap = np.random.default_rng(seed).random((14, 17)) < (0.3, 0.5, 0.8)[seed % 3]
    rings, holes = masks.outlines(bitmap)
    filled = np.zeros(bitmap.shape, bool)
    for ring in rings:
        filled ^= masks.rasterize([[ring.astype(float)]], bitmap.shape)[0]
    assert np.array_equal(filled, bitmap)
    assert any(holes) or seed % 3 == 0


def test_outlines_of_a_square_with_a_hole_are_its_corners():
    bitmap = np.ones((5, 6), np.uint8)
    bitmap[2, 2:4] = 0
    (outer, hole), holes = masks.outlines(bitmap)
    assert holes == [False, True]
    assert {tuple(p) for p in outer.tolist()} == {(0, 0), (6, 0), (6, 5), (0, 5)}
    assert {tuple(p) for p in hole.tolist()} == {(2, 2), (4, 2), (4, 3), (2, 3)}
    assert masks.outlines(np.zeros((5, 6), bool)) == ([], [])


@pytest.mark.parametrize("seed", range(12))
def test_the_extent_of_any_run_lengths_is_that_of_the_bitmap(seed):
    rng = np.random.default_rng(seed)
    bitmap = np.zeros((300, 400), bool)
    top, left = rng.integers(0, 100, 2)
    bottom, right = (300, 400) if seed % 4 == 0 else rng.integers(101, 300, 2)
    top = 0 if seed % 3 == 0 else top
    bitmap[top:bottom, left:right] = rng.random((bottom - top, right - left)) < (0.001, 0.4, 0.999, 1.0)[seed % 4]
    (rle,) = masks.encode_bitmaps(bitmap[None])
    runs = decode_runs([rle]).lengths
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), bitmap.ravel(order="F"))
    extent, x, y = masks.extent_rle(rle)
    again = np.zeros_like(bitmap)
    again[y : y + extent.shape[0], x : x + extent.shape[1]] = extent
    assert np.array_equal(again, bitmap) and extent.any(0)[[0, -1]].all()
    spans = (bitmap[-1, :-1] & bitmap[0, 1:]).any()  # a run from column to column: the whole height
    assert extent.any(1)[[0, -1]].all() or spans


def test_the_extent_of_run_lengths_is_the_mask_alone():
    bitmap = np.zeros((1, *SIZE), bool)
    bitmap[0, 7:20, 30:55] = True
    extent, left, top = masks.extent_rle(masks.encode_bitmaps(bitmap)[0])
    assert (left, top, extent.shape) == (30, 7, (13, 25)) and extent.all()
    assert masks.extent_rle(masks.encode_bitmaps(bitmap & False)[0])[0].size == 0


def test_run_lengths_of_nothing():
    empty = masks.encode_bitmaps(np.zeros((1, *SIZE)))
    assert [masks.crop_rle(np.zeros((0, 0), bool), 0, 0, SIZE)] == empty
    assert [masks.crop_rle(np.zeros((5, 7), bool), 3, 2, SIZE)] == empty
    assert masks.encode_bitmaps(np.zeros((0, *SIZE))) == []


def test_clipping_keeps_the_even_odd_filling_of_an_outline_that_crosses_itself():
    bow_tie = np.array([[-20, 5], [50, 45], [50, 5], [-20, 45.0]])
    cut = masks.rasterize([masks.crop_mask([bow_tie], 0, 0, (30, 40))], (30, 40))[0]
    expected = whole_image([bow_tie], SIZE)[:30, :40]
    assert (cut != expected).mean() < 0.01 and 0.1 < expected.mean() < 0.9


def test_padding_behind_a_crop_shows_nothing_of_what_was_cut_off():
    cropped = masks.crop_mask([square(20, 10, 40, 40)], 10, 5, (20, 20))
    padded = masks.rasterize([masks.pad_mask(cropped, (50, 60))], (50, 60))[0]
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


def random_way(mask, size, steps):
    """A mask through random sizes, flips, windows and, last, padding; and the steps that were taken."""
    for step in steps:
        kind, *numbers = step
        if kind == "resize":
            mask, size = masks.resize_mask(mask, size, tuple(numbers)), tuple(numbers)
        elif kind == "flip":
            mask = masks.flip_mask(mask, size[1])
        elif kind == "crop":
            y, x, *size = numbers
            mask, size = masks.crop_mask(mask, x, y, tuple(size)), tuple(size)
        else:
            mask, size = masks.pad_mask(mask, tuple(numbers)), tuple(numbers)
    return masks.rasterize([mask], size)[0]


def draw_steps(rng, size):
    steps = []
    for kind in rng.choice(["resize", "flip", "crop"], rng.integers(0, 5)):
        if kind == "resize":
            size = tuple(rng.integers(1, 150, 2).tolist())
            steps.append((kind, *size))
        elif kind == "flip":
            steps.append((kind,))
        else:
            y, x = (int(rng.integers(side)) for side in size)
            size = tuple(int(rng.integers(1, side - first + 1)) for side, first in zip(size, (y, x), strict=True))
            steps.append((kind, y, x, *size))
    if rng.random() < 0.5:
        steps.append(("pad", *(side + int(rng.integers(20)) for side in size)))
    return steps


def test_run_lengths_looked_at_through_transforms_are_the_bitmap_that_went_through_them():
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(600):
        size = tuple(rng.integers(1, 100, 2).tolist())
        bitmap = (rng.random(size) < rng.choice([0.02, 0.5, 0.98])).astype(np.uint8)
        if rng.random() < 0.6:  # a part of the image alone
            y, x = (int(rng.integers(side)) for side in size)
            bitmap[:y], bitmap[:, x:] = 0, 0
        steps = draw_steps(rng, size)
        expected = random_way(bitmap, size, steps)
        mask = masks.RleMask(masks.encode_bitmaps(bitmap[None])[0])
        assert mask.shape == size
        assert np.array_equal(random_way(mask, size, steps), expected), steps
        shown += expected.any()
    assert shown > 200


def test_run_lengths_that_are_not_those_of_their_image_are_refused():
    rle = masks.encode_bitmaps(np.ones((1, 20, 30), np.uint8))[0]
    with pytest.raises(DataError, match="do not add up"):
        masks.rasterize([masks.RleMask({**rle, "size": [20, 31]})], (20, 31))


@pytest.mark.parametrize("seed", range(5))
def test_nearest_places_are_opencvs(seed):
    rng = np.random.default_rng(seed)
    for old, new in rng.integers(1, 3000, (100, 2)).tolist():
        line = np.arange(old, dtype=np.float32)[None]
        taken = cv2.resize(line, (new, 1), interpolation=cv2.INTER_NEAREST)[0]
        assert np.array_equal(masks.nearest(old, new), taken.astype(int)), (old, new)
