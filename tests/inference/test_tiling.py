"""Tiles: they cover the picture, and a detector that sees all in each of them gives every object once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_codec

from densevit.errors import ConfigError
from densevit.inference.tiling import merge_instances, merge_maps, tile_windows
from densevit.ops.masks import encode_bitmaps
from densevit.structures import InstanceData

SIZE = (300, 420)


@pytest.mark.parametrize("size", [(300, 420), (1000, 90), (64, 64), (257, 640)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, None), (100, 0), (100, 99), (96, 30)])
def test_tiles_cover_the_picture_and_overlap_at_least_as_asked(size, tile, overlap):
    if overlap == 99 and max(size) > 300:
        pytest.skip("thousands of tiles")
    windows = tile_windows(size, tile, overlap)
    seen = np.zeros(size, int)
    for left, top, right, bottom in windows:
        assert right - left == min(tile, size[1]) and bottom - top == min(tile, size[0])
        assert left >= 0 and right <= size[1] and top >= 0 and bottom <= size[0]
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    least = tile // 4 if overlap is None else overlap
    for axis in (0, 1):
        spans = sorted({(w[axis], w[axis + 2]) for w in windows})
        gaps = [a[1] - b[0] for a, b in pairwise(spans)]
        assert all(gap >= least for gap in gaps) and max(gaps, default=0) - min(gaps, default=0) <= 2
        # no tile is spare
        assert len(spans) == 1 or (len(spans) - 1) * (tile - least) + least < size[1 - axis]


@pytest.mark.parametrize(("tile", "overlap"), [(15, None), (100, 100), (100, -1)])
def test_tiles_that_cannot_be_laid_are_refused(tile, overlap):
    with pytest.raises(ConfigError, match=f"tiles of {tile} pixels"):
        tile_windows(SIZE, tile, overlap)


@pytest.mark.parametrize("tile", [64, 101, 500])
def test_each_pixel_of_a_map_comes_from_the_tile_whose_center_is_nearest(tile):
    windows = tile_windows(SIZE, tile)
    maps = [torch.full((w[3] - w[1], w[2] - w[0]), i) for i, w in enumerate(windows)]
    merged = merge_maps(maps, windows, SIZE).numpy()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centers = [((w[0] + w[2]) / 2, (w[1] + w[3]) / 2) for w in windows]
    distances = np.stack([np.hypot(x - cx, y - cy) for cx, cy in centers])
    chosen = np.take_along_axis(distances, merged[None], 0)[0]
    assert (chosen <= distances.min(0) + 1.0).all()
    whole = torch.arange(SIZE[0] * SIZE[1]).view(SIZE)
    parts = [whole[w[1] : w[3], w[0] : w[2]] for w in windows]
    assert torch.equal(merge_maps(parts, windows, SIZE), whole)


def ellipse(box, size=SIZE):
    """A mask that fills its box."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25


def seen_in(window, masks, labels, scores, least=0.15, noise=None):
    """What a perfect detector finds in a window: each object of which enough is shown, in the window's own pixels."""
    left, top, right, bottom = window
    found = []
    for mask, label, score in zip(masks, labels, scores, strict=True):
        part = mask[top:bottom, left:right]
        if part.sum() < least * mask.sum() and part.mean() < 0.05:
            continue
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
        if noise is not None:
            box += noise.normal(0, 0.8, 4)
        found.append((box, label, score * (0.9 + 0.1 * part.sum() / mask.sum()), part))
    boxes = torch.tensor(np.array([f[0] for f in found]).reshape(-1, 4), dtype=torch.float32)
    instances = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([f[1] for f in found], dtype=torch.int64),
        scores=torch.tensor([f[2] for f in found], dtype=torch.float32),
    )
    instances.masks = encode_bitmaps(np.array([f[3] for f in found])) if found else []
    return instances


def bitmaps(instances):
    return rle_codec.decode(instances.masks).transpose(2, 0, 1).astype(bool)


def some_objects(rng, count, low, high):
    boxes = []
    while len(boxes) < count:
        width, height = rng.uniform(low, high, 2)
        x, y = rng.uniform(0, SIZE[1] - width), rng.uniform(0, SIZE[0] - height)
        box = np.array([x, y, x + width, y + height])
        if all((np.minimum(box[2:], b[2:]) <= np.maximum(box[:2], b[:2])).any() for b in boxes):
            boxes.append(box)
    return boxes


def assert_each_once(found, masks, labels, least=0.97):
    """Every object is found once, with its own mask."""
    assert len(found.labels) == len(masks)
    assert (found.scores[:-1] >= found.scores[1:]).all()
    shown, left = bitmaps(found), set(range(len(masks)))
    for mask, label, box in zip(shown, found.labels.tolist(), found.bboxes.numpy(), strict=True):
        ious = [(mask & m).sum() / (mask | m).sum() for m in masks]
        best = int(np.argmax(ious))
        assert ious[best] >= least and labels[best] == label and best in left
        left.remove(best)
        rows, columns = np.flatnonzero(masks[best].any(1)), np.flatnonzero(masks[best].any(0))
        assert np.abs(box - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() < 5


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [False, True])
def test_every_object_is_found_once_with_its_whole_mask(seed, whole):
    rng = np.random.default_rng(seed)
    low, high = ((10, 40), (30, 110))[seed % 2]  # the latter are larger than the overlap: no tile may hold them whole
    masks = [ellipse(box) for box in some_objects(rng, 14 if seed % 2 == 0 else 6, low, high)]
    labels, scores = rng.integers(0, 2, len(masks)), rng.uniform(0.5, 1, len(masks))
    windows = tile_windows(SIZE, 160, 50)
    views = [*windows, (0, 0, SIZE[1], SIZE[0])] if whole else windows
    parts = [seen_in(w, masks, labels, scores, noise=rng) for w in views]
    assert sum(len(p.labels) for p in parts) > len(masks)
    assert_each_once(merge_instances(parts, views, SIZE), masks, labels)


def test_an_object_larger_than_all_tiles_is_united_of_its_pieces():
    masks, windows = [ellipse((20, 20, 400, 280))], tile_windows(SIZE, 160, 50)
    parts = [seen_in(w, masks, [1], [0.9], least=0.0) for w in windows]
    assert sum(len(p.labels) for p in parts) > 4
    assert_each_once(merge_instances(parts, windows, SIZE), masks, [1])


def alone(boxes, scores):
    """One view's detections of class 0, without masks."""
    count = len(boxes)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long), scores=torch.tensor(scores))


def test_a_whole_object_wins_over_a_piece_that_scores_better():
    windows = [(0, 0, 200, 100), (150, 0, 350, 100)]
    whole, piece = alone([[100.0, 10, 190, 90]], [0.4]), alone([[0.0, 10, 40, 90]], [0.9])
    merged = merge_instances([whole, piece], windows, (100, 350))
    assert merged.bboxes.tolist() == [[100, 10, 190, 90]] and merged.scores.tolist() == pytest.approx([0.4])
    assert "masks" not in merged
    other = merge_instances([whole, InstanceData(**dict(piece.items(), labels=torch.tensor([1])))], windows, (100, 350))
    assert other.labels.tolist() == [1, 0]  # of another class: not the same object


def test_what_one_view_distinguishes_stays_apart():
    boxes = [[10.0, 10, 60, 60], [12, 10, 62, 60], [140, 10, 159, 60], [141, 10, 159, 60]]
    one = alone(boxes, [0.9, 0.8, 0.7, 0.6])
    merged = merge_instances([one, alone([], [])], [(0, 0, 160, 100), (120, 0, 280, 100)], (100, 280))
    assert merged.bboxes.tolist() == boxes


def test_a_small_object_before_a_large_one_that_fills_its_tile_stays():
    large, small = alone([[0.0, 0, 400, 300]], [0.9]), alone([[10.0, 10, 140, 140]], [0.8])
    merged = merge_instances([small, large], [(100, 100, 250, 250), (0, 0, 420, 300)], SIZE)
    assert merged.bboxes.tolist() == [[0, 0, 400, 300], [110, 110, 240, 240]]


def test_nothing_found_anywhere():
    nothing = alone([], [])
    nothing.masks = []
    merged = merge_instances([nothing, nothing], [(0, 0, 160, 100), (120, 0, 280, 100)], (100, 280))
    assert merged.bboxes.shape == (0, 4) and len(merged.labels) == 0 and merged.masks == []
