"""ViTDet's large-scale jitter by the transforms of a pipeline: objects are where the image shows them.

The image of these tests holds in its channels the row and the column of each pixel: however it is resized, flipped and
cut, it still says where a pixel comes from.
"""

import numpy as np
import pytest

from densevit.registry import TRANSFORMS

HEIGHT, WIDTH, SIDE = 120, 200, 160
BOXES = np.array([[20, 10, 90, 60], [120, 30, 180, 110], [60, 70, 110, 115]], dtype=np.float32)
STEPS = (
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(SIDE, SIDE), ratio_range=(0.1, 2.0)),
    dict(type="RandomCrop", size=(SIDE, SIDE), allow_empty=True, boxes_from_masks=True),
    dict(type="Pad", size=(SIDE, SIDE)),
)


def drawn(polygons: bool) -> dict:
    """An image that shows its own coordinates, with three rectangular objects."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.uint8)
    masks = []
    for x1, y1, x2, y2 in BOXES.astype(int):
        bitmap = np.zeros((HEIGHT, WIDTH), np.uint8)
        bitmap[y1:y2, x1:x2] = 1
        outline = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float64)
        masks.append([outline] if polygons else bitmap)
    return dict(
        img=np.stack((rows, columns, np.full_like(rows, 255)), -1),
        img_shape=(HEIGHT, WIDTH),
        ori_shape=(HEIGHT, WIDTH),
        gt_bboxes=BOXES.copy(),
        gt_labels=np.arange(3),
        gt_ignore=np.zeros(3, dtype=bool),
        gt_masks=masks,
    )


def jittered(seed: int, polygons: bool) -> dict:
    np.random.seed(seed)
    results = drawn(polygons)
    for step in (*STEPS, dict(type="PackSample")):
        results = TRANSFORMS.build(dict(step)).transform(results)
    return results


@pytest.mark.parametrize("polygons", [True, False])
def test_masks_and_boxes_are_where_the_image_shows_the_objects(polygons):
    seen, empty = 0, 0
    for seed in range(60):
        packed = jittered(seed, polygons)
        image, sample = packed["inputs"].numpy(), packed["data_samples"]
        instances = sample.gt_instances
        assert image.shape == (3, SIDE, SIDE)
        height, width = sample.img_shape
        assert (image[:, height:] == 0).all()
        assert (image[:, :, width:] == 0).all()
        assert image[2, :height, :width].min() == 255, "padding stands behind the picture alone"
        masks = instances.masks.numpy()
        assert not masks[:, height:].any()
        assert not masks[:, :, width:].any()
        rows, columns = image[0].astype(float), image[1].astype(float)
        inside = image[2] > 0
        wanted = {}
        for label, (x1, y1, x2, y2) in enumerate(BOXES - 0.5):  # a pixel's value is that of its middle
            wanted[label] = inside & (rows > y1) & (rows < y2) & (columns > x1) & (columns < x2)
        scale = max(sample.scale_factor)
        for box, label, mask in zip(instances.bboxes.numpy(), instances.labels.tolist(), masks, strict=True):
            border = 3 + 2 * scale
            wrong = (mask != wanted[label]).sum()
            assert wrong <= border * 2 * (mask.any(0).sum() + mask.any(1).sum()), (seed, label)
            found = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            assert box.tolist() == [found[0][0], found[1][0], found[0][-1] + 1, found[1][-1] + 1]
        gone = set(wanted) - set(instances.labels.tolist())
        assert all(wanted[label].sum() <= border_of(scale) for label in gone), seed
        seen, empty = seen + len(instances), empty + (len(instances) == 0)
    assert seen > 60


def border_of(scale: float) -> float:
    """Pixels of an object that may be lost at its border when it is cut or shrunk."""
    return (3 + 2 * scale) * SIDE


def test_sizes_are_the_fit_times_a_factor_from_a_tenth_to_two():
    """detectron2's ResizeScale: the picture is fitted into the square times the factor, then cut to the square."""
    fit = SIDE / WIDTH
    scales, shapes = [], []
    for seed in range(300):
        sample = jittered(seed, False)["data_samples"]
        scales.append(sample.scale_factor[0] / fit)
        shapes.append(sample.img_shape)
    scales = np.array(scales)
    assert 0.08 < scales.min() < 0.2
    assert 1.9 < scales.max() <= 2.01
    assert abs(scales.mean() - 1.05) < 0.1  # uniform
    for scale, (height, width) in zip(scales, shapes, strict=True):
        assert abs(width - min(WIDTH * fit * scale, SIDE)) <= 1
        assert abs(height - min(HEIGHT * fit * scale, SIDE)) <= 1.01
