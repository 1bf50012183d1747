"""A prediction as arrays, as a picture and as JSON, whatever kinds of results it has."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_codec

from densevit.datasets.scenes import OBJECT_CLASSES, SEMANTIC_CLASSES, render
from densevit.errors import ConfigError
from densevit.inference.prediction import Prediction
from densevit.ops.masks import decode_rle, encode_bitmaps, rasterize
from densevit.structures import InstanceData

KINDS = ("pred_instances", "pred_semantic", "pred_depth")


def prediction(*kinds, size=(96, 128), classes=OBJECT_CLASSES, semantic_classes=SEMANTIC_CLASSES) -> Prediction:
    """A rendered scene, its ground truth as the prediction."""
    scene = render(seed=1, index=3, size=size)
    found = Prediction(metainfo=dict(img_path=None, classes=classes, semantic_classes=semantic_classes))
    found.set_data({"image": np.ascontiguousarray(scene.image[..., ::-1])})
    count = len(scene.labels)
    instances = InstanceData(
        bboxes=torch.from_numpy(scene.boxes), labels=torch.from_numpy(scene.labels), scores=torch.full((count,), 0.9)
    )
    semantic = torch.from_numpy(scene.semantic.astype(np.int64) - 1)
    fields = dict(zip(KINDS, (instances, semantic, torch.from_numpy(scene.depth)), strict=True))
    found.set_data({kind: fields[kind] for kind in kinds})
    return found


def test_what_is_not_predicted_is_empty_or_none():
    found = prediction()
    assert found.boxes.shape == (0, 4) and found.boxes.dtype == np.float32
    assert found.labels.shape == found.scores.shape == (0,) and found.labels.dtype == np.int64
    assert found.names == [] and found.semantic is None and found.depth is None
    assert (found.draw() == found.image).all() and found.draw(min_size=300).shape == (288, 384, 3)
    assert found.to_dict() == {"image": None, "width": 128, "height": 96, "objects": []}


def test_maps_are_arrays_in_the_pixels_of_the_image():
    found = prediction(*KINDS)
    assert found.semantic.shape == found.depth.shape == (96, 128)
    assert found.semantic.dtype == np.int64 and found.depth.dtype == np.float32
    assert found.names == [OBJECT_CLASSES[k] for k in found.labels]


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_one_picture(kind):
    found = prediction(kind)
    drawn = found.draw()
    assert drawn.shape[1] == 128 and drawn.dtype == np.uint8 and drawn.flags.c_contiguous
    assert (drawn.shape[0] == 96) == (kind == "pred_instances")
    assert (drawn[:96] != found.image).any()
    assert found.draw(min_size=256).shape[1] == 256


@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_several_kinds_are_panels_side_by_side(size):
    found = prediction(*KINDS, size=size)
    before = found.image.copy()
    drawn, larger = found.draw(), found.draw(min_size=320)
    assert drawn.shape[1] > 3 * size[1] and drawn.shape[0] > size[0]
    assert larger.shape[1] > 3 * 320 and larger.shape[0] > 320 * size[0] // size[1]
    two = prediction("pred_semantic", "pred_depth", size=size).draw()
    assert 2 * size[1] < two.shape[1] < 3 * size[1]
    assert (found.image == before).all()


def with_masks(**settings) -> tuple[Prediction, np.ndarray]:
    """A prediction with the masks of its scene, and those (N, H, W)."""
    found = prediction("pred_instances", **settings)
    masks = render(seed=1, index=3, size=found.image.shape[:2]).masks
    found.pred_instances.masks = encode_bitmaps(masks)
    return found, masks


def test_masks_are_arrays_run_lengths_and_polygons_alike():
    found, masks = with_masks()
    assert found.masks.dtype == bool and np.array_equal(found.masks, masks)
    assert np.array_equal(rle_codec.decode(found.rles).transpose(2, 0, 1), masks)
    for rings, mask, box in zip(found.polygons, masks, found.boxes, strict=True):
        filled = np.zeros(mask.shape, bool)
        for ring in rings:
            filled ^= rasterize([[ring.astype(float)]], mask.shape)[0]
        assert np.array_equal(filled, mask)
        points = np.concatenate(rings)
        assert [*points.min(0), *points.max(0)] == box.tolist()


def test_masks_stay_with_their_objects_when_some_are_chosen():
    found, masks = with_masks()
    found.pred_instances.scores[:] = torch.linspace(0.1, 0.9, len(masks))
    chosen = found.pred_instances[found.pred_instances.scores >= 0.5]
    assert 0 < len(chosen.masks) < len(masks)
    assert np.array_equal(decode_rle(chosen.masks[0]), masks[len(masks) - len(chosen.masks)])


def test_no_masks_are_none_and_masks_of_no_objects_are_empty():
    found = prediction("pred_instances")
    assert found.masks is found.rles is found.polygons is None and prediction().masks is None
    assert "segmentation" not in found.to_dict()["objects"][0]
    found.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0), masks=[]
    )
    assert found.masks.shape == (0, 96, 128) and found.rles == found.polygons == []
    assert (found.draw() == found.image).all() and found.to_dict()["objects"] == []


def test_masks_are_drawn_above_the_threshold_and_on_enlarged_pictures():
    size = (300, 400)
    (found, masks), boxes_alone = with_masks(size=size), prediction("pred_instances", size=size)
    before = found.image.copy()
    drawn, plain = found.draw(), boxes_alone.draw()
    tinted = (drawn != plain).any(2)
    assert tinted[masks.any(0)].mean() > 0.7 > 0.2 > tinted[~masks.any(0)].mean()  # labels lie over some
    assert (found.draw(score_thr=0.95) == found.image).all() and (found.image == before).all()
    large = (found.draw(min_size=600) != boxes_alone.draw(min_size=600)).any(2)
    assert large[masks.any(0).repeat(2, 0).repeat(2, 1)].mean() > 0.7


def test_json_has_run_lengths_that_read_back():
    found, masks = with_masks()
    found.pred_instances.scores[0] = 0.1
    read = json.loads(json.dumps(found.to_dict(0.5)))["objects"]
    assert len(read) == len(masks) - 1
    for one, mask in zip(read, masks[1:], strict=True):
        assert np.array_equal(decode_rle(one["segmentation"]), mask)


def test_json_has_the_shares_of_the_classes_and_the_range_of_the_depth():
    found = prediction(*KINDS)
    read = json.loads(json.dumps(found.to_dict()))
    shares = list(read["classes"].values())
    assert set(read["classes"]) <= set(SEMANTIC_CLASSES) and shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    measured = found.depth[found.depth > 0]
    expected = {"min": measured.min(), "median": np.median(measured), "max": measured.max()}
    assert read["depth"] == {"kind": "metric", "unit": "m", **expected}
    assert len(read["objects"]) == len(found.boxes)


def test_semantic_classes_alone_are_named_by_the_classes_and_no_class_has_no_share():
    found = prediction("pred_semantic", classes=("a", "b"), semantic_classes=None)
    found.pred_semantic = torch.full((96, 128), 255)
    found.pred_semantic[:24], found.pred_semantic[24:36] = 1, 5
    assert found.to_dict()["classes"] == {"b": 0.25, "#5": 0.125}


def test_depth_that_was_measured_nowhere_has_no_range():
    found = prediction("pred_depth")
    found.pred_depth = torch.zeros(96, 128)
    nothing = {"min": None, "median": None, "max": None}
    assert found.to_dict()["depth"] == {"kind": "metric", "unit": "m", **nothing}
    assert found.draw().shape[1] == 128
    points, colors = found.point_cloud((100, 100, 64, 48))
    assert points.shape == colors.shape == (0, 3)


def relative(**settings) -> Prediction:
    """A prediction of depth that knows no unit: sky is 0, and some of it is below."""
    found = prediction("pred_depth", **settings)
    found.set_metainfo({"depth_kind": "relative"})
    found.pred_depth = torch.where(found.pred_depth > 0, 5 / found.pred_depth.clamp(min=0.1) - 1, -2.0)
    return found


def test_relative_depth_is_said_to_be_relative_and_keeps_what_is_below_0():
    found = relative()
    read = json.loads(json.dumps(found.to_dict()))["depth"]
    assert read["kind"] == "relative" and read["unit"] is None
    assert (read["min"], read["max"]) == (found.depth.min(), found.depth.max()) and read["min"] < 0
    meters = prediction("pred_depth")
    nearest = np.unravel_index(found.depth.argmax(), found.depth.shape)
    assert meters.depth[nearest] == meters.depth[meters.depth > 0].min()
    red, _, blue = found.draw()[nearest].astype(int)
    assert red > 100 > blue


def test_a_picture_of_depth_in_given_limits_has_the_same_colors_for_the_same_meters():
    found = prediction("pred_depth")
    half = prediction("pred_depth")
    half.pred_depth = torch.where(half.pred_depth > half.pred_depth.median(), 0.0, half.pred_depth)
    there = half.depth > 0
    assert there.any()
    pictures = [one.draw(depth_limits=(0.5, 20))[:96][there] for one in (found, half)]
    assert (pictures[0] == pictures[1]).all()
    assert (found.draw()[:96][there] != half.draw()[:96][there]).any()


def test_a_point_cloud_has_the_pixels_with_depth_in_the_images_colors():
    found = prediction("pred_depth")
    points, colors = found.point_cloud((150, 150, 63.5, 40))
    measured = found.depth > 0
    assert np.array_equal(points[:, 2], found.depth[measured]) and np.array_equal(colors, found.image[measured])


def test_a_point_cloud_of_relative_depth_or_of_none_is_refused():
    with pytest.raises(ConfigError, match="needs meters, and this model's depth is relative"):
        relative().point_cloud((150, 150, 63.5, 40))
    with pytest.raises(ConfigError, match="predicts none"):
        prediction("pred_instances").point_cloud((150, 150, 63.5, 40))
