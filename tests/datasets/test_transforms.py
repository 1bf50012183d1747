"""Image, boxes, masks, class map and depth stay together through every transform."""

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Resize as McvResize

from densevit.datasets.transforms.color import PhotometricDistortion
from densevit.datasets.transforms.geometry import Pad, RandomChoiceResize, RandomFlip, RandomResize, Resize
from densevit.datasets.transforms.loading import LoadAnnotations, LoadImage
from densevit.datasets.transforms.pack import PackSample
from densevit.datasets.transforms.random_crop import RandomCrop
from densevit.errors import ConfigError
from densevit.ops.masks import bitmap_boxes, encode_bitmaps, rasterize

OBJECTS = [(10, 8, 30, 28), (40, 20, 78, 50), (60, 2, 70, 12)]  # x1, y1, x2, y2


def scene(height=60, width=80):
    """Rectangles in the image, as boxes, polygon and bitmap masks, classes 1-3 and meters 1-3, all from one drawing."""
    classes = np.zeros((height, width), np.uint8)
    masks = []
    for number, (x1, y1, x2, y2) in enumerate(OBJECTS, 1):
        classes[y1:y2, x1:x2] = number
        masks.append([np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=float)])
    masks[1] = (classes == 2).astype(np.uint8)
    results = dict(img=np.repeat(classes[..., None] * 60, 3, axis=2), img_id=5)
    results = LoadImage().transform(results)
    results.update(
        gt_bboxes=np.array(OBJECTS, dtype=np.float32),
        gt_labels=np.array([1, 2, 3]),
        gt_ignore=np.zeros(3, dtype=bool),
        gt_masks=masks,
        gt_semantic=classes.copy(),
        gt_depth=classes.astype(np.float32),
    )
    return results


def assert_agrees(results, tolerance=0.0):
    """Every kind of ground truth says the same of each pixel, up to a share of border pixels."""
    classes = results["gt_semantic"]
    assert results["img"].shape[:2] == classes.shape == results["gt_depth"].shape
    assert np.array_equal(results["gt_depth"], np.where(classes == 255, 0, classes).astype(np.float32))
    painted = np.rint(results["img"][..., 0] / 60)
    assert (painted != np.where(classes == 255, 0, classes)).mean() <= tolerance
    masks = rasterize(results["gt_masks"], classes.shape)
    for mask, label, box in zip(masks, results["gt_labels"], results["gt_bboxes"], strict=True):
        assert (mask != (classes == label)).mean() <= tolerance
        x1, y1, x2, y2 = np.round(box).astype(int)
        inside = np.zeros_like(mask)
        inside[y1:y2, x1:x2] = True
        assert (mask != inside).mean() <= tolerance


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (640, 428), (333, 500), (1200, 50), (7, 3)])
@pytest.mark.parametrize("scale", [(1333, 800), (224, 224), (800, 1333)])
def test_keep_ratio_gives_the_pixels_and_numbers_of_mmcv(size, scale):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    boxes = np.array([[1.3, 2.7, 3.9, 5.1]], dtype=np.float32)
    expected = McvResize(scale, keep_ratio=True).transform(dict(img=image, gt_bboxes=boxes.copy()))
    results = Resize(scale).transform(LoadImage().transform(dict(img=image)) | dict(gt_bboxes=boxes))
    assert np.array_equal(results["img"], expected["img"])
    assert results["img_shape"] == expected["img_shape"]
    assert results["scale_factor"] == expected["scale_factor"]
    assert np.allclose(results["gt_bboxes"], expected["gt_bboxes"], rtol=1e-6)


def test_the_usual_coco_image_becomes_1067_by_800():
    image = np.zeros((480, 640, 3), np.uint8)
    results = Resize((1333, 800)).transform(LoadImage().transform(dict(img=image)))
    assert results["img_shape"] == (800, 1067) and results["scale_factor"] == (1067 / 640, 800 / 480)


def test_a_thread_of_an_image_keeps_a_pixel():
    results = Resize((100, 100)).transform(LoadImage().transform(dict(img=np.zeros((2, 1000, 3), np.uint8))))
    assert results["img_shape"] == (1, 100)


def test_resize_keeps_all_ground_truth_together():
    assert_agrees(scene())
    for size in ((160, 120), (240, 180)):
        assert_agrees(Resize(size, keep_ratio=False).transform(scene()), tolerance=0.03)
    assert_agrees(Resize((53, 41), keep_ratio=False).transform(scene()), tolerance=0.08)


def test_two_resizes_multiply_their_scale_factors():
    results = Resize((40, 30)).transform(Resize((160, 120)).transform(scene()))
    assert results["scale_factor"] == (0.5, 0.5) and results["ori_shape"] == (60, 80)


def test_holes_in_the_depth_stay_holes_and_meters_stay_meters():
    results = scene()
    results["gt_depth"] = np.random.default_rng(0).choice([0.0, 2.5, 7.25], (60, 80)).astype(np.float32)
    for size in ((200, 150), (31, 23)):
        depth = Resize(size, keep_ratio=False).transform(dict(results))["gt_depth"]
        assert set(np.unique(depth)) == {0.0, 2.5, 7.25}
        assert depth.dtype == np.float32


def test_flip_twice_gives_everything_back_and_once_agrees():
    flip, before = RandomFlip(1.0), scene()
    once = flip.transform(scene())
    assert once["flip"] is True
    assert_agrees(once)
    assert once["gt_bboxes"][0].tolist() == [50, 8, 70, 28]
    twice = flip.transform(once)
    assert twice["flip"] is False
    for key in ("img", "gt_bboxes", "gt_semantic", "gt_depth"):
        assert np.array_equal(twice[key], before[key])
    for a, b in zip(twice["gt_masks"], before["gt_masks"], strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_flip_happens_as_often_as_asked():
    np.random.seed(0)
    for prob in (0.0, 0.3, 1.0):
        flips = np.mean([RandomFlip(prob).transform(scene())["flip"] for _ in range(400)])
        assert flips == pytest.approx(prob, abs=0.08 if 0 < prob < 1 else 0)


@pytest.mark.parametrize(
    "crop",
    [
        dict(size=(40, 30)),
        dict(size=(20, 50), size_type="absolute_range"),
        dict(size=(0.5, 0.4), size_type="relative"),
        dict(size=(0.3, 0.3), size_type="relative_range"),
    ],
)
def test_crops_keep_all_ground_truth_together(crop):
    np.random.seed(0)
    for _ in range(50):
        results = RandomCrop(**crop, allow_empty=True).transform(scene())
        assert results["img"].shape[:2] == results["img_shape"]
        assert_agrees(results)
        assert set(results["gt_labels"]) == set(np.unique(results["gt_semantic"])) - {0}


def test_crop_sizes_are_those_asked_for():
    np.random.seed(0)

    def sizes(**settings):
        return {RandomCrop(**settings, allow_empty=True).transform(scene())["img_shape"] for _ in range(100)}

    assert sizes(size=(40, 30)) == {(30, 40)}
    assert sizes(size=(400, 300)) == {(60, 80)}
    assert sizes(size=(0.5, 0.25), size_type="relative") == {(15, 40)}
    drawn = sizes(size=(20, 50), size_type="absolute_range")
    assert {min(s) for s in drawn} >= {20, 21} and max(map(max, drawn)) == 50


def test_a_crop_without_objects_gives_none_unless_allowed():
    results = scene()
    for key in ("gt_bboxes", "gt_labels", "gt_ignore"):
        results[key] = results[key][:0]
    results["gt_masks"] = []
    assert RandomCrop((10, 10)).transform(dict(results)) is None
    assert RandomCrop((10, 10), allow_empty=True).transform(dict(results))["img_shape"] == (10, 10)


def test_boxes_from_masks_tighten_boxes_after_a_crop():
    np.random.seed(0)
    triangle = [np.array([[0, 0], [60, 0], [0, 60]], dtype=float)]
    for _ in range(30):
        results = scene()
        results.update(gt_bboxes=np.array([[0, 0, 60, 60]], np.float32), gt_labels=np.array([0]))
        results.update(gt_ignore=np.array([False]), gt_masks=[triangle])
        results = RandomCrop((30, 30), allow_empty=True, boxes_from_masks=True).transform(results)
        masks = rasterize(results["gt_masks"], (30, 30))
        for mask, box in zip(masks, results["gt_bboxes"], strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_pad_adds_ignored_pixels_at_the_right_and_bottom_only():
    results = Pad(size=(100, 70), divisor=32, value=7).transform(scene())
    assert results["img"].shape == (96, 128, 3) and results["img_shape"] == (60, 80)
    assert (results["img"][60:] == 7).all() and (results["gt_semantic"][:, 80:] == 255).all()
    assert not results["gt_depth"][60:].any() and results["gt_masks"][1].shape == (96, 128)
    for key in ("img", "gt_semantic", "gt_depth"):
        assert np.array_equal(results[key][:60, :80], scene()[key])
    with pytest.raises(ConfigError, match="RandomFlip stands after Pad"):
        RandomFlip(1.0).transform(results)


def forms_of(masks, size):
    """The same masks as polygons, as bitmaps and as RLEs, through loading."""
    bitmaps = rasterize(masks, size)
    entries = [masks, list(bitmaps.astype(np.uint8)), encode_bitmaps(bitmaps)]
    for entry in entries:
        results = scene(*size)
        del results["gt_masks"]
        count = len(masks)
        boxes = bitmap_boxes(bitmaps)
        results.update(bboxes=boxes, labels=np.arange(count), ignore=np.arange(count) == 1, masks=entry)
        yield LoadAnnotations(with_masks=True).transform(results)


def packed_masks(results):
    sample = PackSample().transform(results)["data_samples"]
    return [sample.gt_instances.masks.numpy(), sample.ignored_instances.masks.numpy()]


def test_polygons_bitmaps_and_rles_of_one_mask_are_one_target():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ragged = [[rng.uniform(0, 60, (7, 2)) for _ in range(rng.integers(1, 3))] for _ in range(3)]
        first, *others = (packed_masks(results) for results in forms_of(ragged, (60, 80)))
        assert first[0].any() and len(first[1]) == 1
        for other in others:
            assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_polygons_bitmaps_and_rles_stay_one_target_on_any_way_along_pixel_edges():
    corners = [[[10, 8], [30, 8], [30, 28], [20, 28], [20, 18], [10, 18]], [[40, 20], [78, 20], [78, 50], [40, 50]]]
    masks = [[np.array(c, dtype=float)] for c in corners]
    steps = [Resize((160, 120)), RandomFlip(1.0), RandomCrop((60, 90)), Pad(size=(128, 128)), PackSample()]
    targets = []
    for results in forms_of(masks, (60, 80)):
        np.random.seed(1)  # cuts through both
        for step in steps:
            results = step.transform(results)
        sample = results["data_samples"]
        targets.append([sample.gt_instances.masks, sample.ignored_instances.masks, sample.gt_instances.bboxes])
    assert targets[0][0].shape[1:] == (128, 128)
    assert 0 < targets[0][0].sum() < 4 * 300 and 0 < targets[0][1].sum() < 4 * 38 * 30
    for other in targets[1:]:
        assert all(torch.equal(a, b) for a, b in zip(targets[0], other, strict=True))


@pytest.mark.parametrize("boxes_from_masks", [False, True])
def test_large_scale_jitter_keeps_all_ground_truth_together(boxes_from_masks):
    jitter = RandomResize((96, 96), ratio_range=(0.3, 2.0))
    crop = RandomCrop((96, 96), allow_empty=True, boxes_from_masks=boxes_from_masks)
    shrunk = cropped = 0
    for seed in range(40):
        np.random.seed(seed)
        results = Pad(size=(96, 96)).transform(RandomFlip().transform(crop.transform(jitter.transform(scene()))))
        assert results["img"].shape == (96, 96, 3) and all(n <= 96 for n in results["img_shape"])
        assert_agrees(results, tolerance=0.06)
        sample = PackSample().transform(results)["data_samples"].gt_instances
        assert sample.masks.shape == (len(results["gt_labels"]), 96, 96)
        height, width = results["img_shape"]
        assert not sample.masks[:, height:].any() and not sample.masks[:, :, width:].any()
        shrunk, cropped = shrunk + (height < 60), cropped + (width == 96)
    assert shrunk > 3 and cropped > 3


def test_multi_scale_draws_every_scale():
    np.random.seed(0)
    scales = [(160, 120), (120, 90), (80, 60)]
    drawn = {RandomChoiceResize(scales).transform(scene())["img_shape"] for _ in range(60)}
    assert drawn == {(120, 160), (90, 120), (60, 80)}


def test_random_resize_stays_within_its_limits():
    np.random.seed(0)
    between = [RandomResize([(200, 60), (200, 90)]).transform(scene())["img_shape"] for _ in range(200)]
    assert {min(s) for s in between} == set(range(60, 91))
    jitter = [RandomResize((80, 60), ratio_range=(0.5, 2.0)).transform(scene())["img_shape"][1] for _ in range(200)]
    assert 39 <= min(jitter) < 50 and 145 < max(jitter) <= 160


@pytest.mark.parametrize(
    "build",
    [
        lambda: Resize((1333, 0)),
        lambda: Resize(800),
        lambda: RandomChoiceResize([]),
        lambda: RandomResize((80, 60)),
        lambda: RandomResize([(80, 60), (90, 70)], ratio_range=(0.5, 2)),
        lambda: RandomCrop((0.5, 2.0), size_type="relative"),
        lambda: RandomCrop((30, 30), size_type="absolut"),
    ],
)
def test_impossible_settings_are_refused(build):
    with pytest.raises(ConfigError):
        build()


def test_photometric_distortion_changes_colors_only_and_within_bounds():
    np.random.seed(0)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    changed = [PhotometricDistortion().transform(dict(img=image.copy()))["img"] for _ in range(60)]
    assert all(c.dtype == np.uint8 and c.shape == image.shape for c in changed)
    assert sum(not np.array_equal(c, image) for c in changed) > 40
    brighter = PhotometricDistortion(contrast=(1, 1), saturation=(1, 1), hue=0, swap_channels=False)
    for _ in range(40):
        difference = brighter.transform(dict(img=image))["img"].astype(int) - image
        assert np.abs(difference).max() <= 32
    none = PhotometricDistortion(0, (1, 1), (1, 1), 0, swap_channels=False)
    assert np.array_equal(none.transform(dict(img=image))["img"], image)


def test_hue_turns_by_degrees_and_gray_stays_gray():
    np.random.seed(1)
    distort = PhotometricDistortion(0, (1, 1), (1, 1), hue=18, swap_channels=False)
    red, gray = np.full((4, 4, 3), (0, 0, 200), np.uint8), np.full((4, 4, 3), 90, np.uint8)
    second = []
    for _ in range(60):
        assert np.array_equal(distort.transform(dict(img=gray))["img"], gray)
        b, g, r = distort.transform(dict(img=red))["img"][0, 0].astype(int)
        assert r == 200
        second.append(max(b, g))
    assert 40 < max(second) <= 200 * 18 / 60 + 4  # 60 degrees would make yellow or magenta


def test_packed_sample_holds_what_the_results_hold():
    results = scene()
    results["gt_ignore"] = np.array([False, False, True])
    results["gt_bboxes"][0] = [-5, 8, 300, 28]
    packed = PackSample().transform(Resize((160, 120)).transform(results))
    image, sample = packed["inputs"], packed["data_samples"]
    assert image.dtype == torch.uint8 and image.shape == (3, 120, 160)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), results["img"])
    assert sample.metainfo == dict(
        img_id=5, img_path=None, ori_shape=(60, 80), img_shape=(120, 160), scale_factor=(2.0, 2.0), flip=False
    )
    ground_truth, ignored = sample.gt_instances, sample.ignored_instances
    assert ground_truth.bboxes.tolist() == [[0, 16, 160, 56], [80, 40, 156, 100]]
    assert ground_truth.bboxes.dtype == torch.float32 and ground_truth.labels.dtype == torch.int64
    assert ground_truth.masks.shape == (2, 120, 160) and ground_truth.masks.dtype == torch.bool
    assert ignored.labels.tolist() == [3] and int(ignored.masks.sum()) == 20 * 20
    assert sample.gt_semantic.dtype == torch.int64 and sample.gt_depth.dtype == torch.float32


def test_a_cropped_image_is_packed_without_the_pixels_that_were_cut_off():
    packed = PackSample().transform(RandomCrop((40, 30), allow_empty=True).transform(scene()))
    assert packed["inputs"].untyped_storage().nbytes() == 40 * 30 * 3


def test_without_ground_truth_only_the_image_is_packed():
    packed = PackSample().transform(LoadImage().transform(dict(img=np.zeros((9, 8, 3), np.uint8))))
    assert packed["data_samples"].keys() == []


def test_masks_cannot_be_loaded_where_the_dataset_has_none():
    with pytest.raises(ConfigError, match="with_masks=True"):
        LoadAnnotations(with_masks=True).transform(dict(bboxes=[], labels=[], ignore=[]))


@pytest.mark.parametrize(
    ("size", "scale", "fit", "divisor", "wanted"),
    [
        ((61, 97), (98, 98), "cover", 14, (98, 154)),  # 155.8 lies between 154 and 168
        ((480, 640), (518, 518), "cover", 14, (518, 686)),
        ((640, 480), (518, 518), "cover", 14, (686, 518)),
        ((100, 100), (100, 100), "cover", 14, (112, 112)),  # the nearest multiple, 98, would not cover
        ((375, 1242), (384, 384), "closest", 32, (384, 1280)),  # the height changes less
        ((300, 400), (384, 384), "closest", 32, (288, 384)),  # the width does
        ((10, 1000), (384, 384), "closest", 32, (32, 384)),  # never nothing
        ((61, 97), (120, 120), "cover", 1, (120, 191)),
    ],
)
def test_a_size_may_cover_or_nearly_keep_the_scale_in_multiples(size, scale, fit, divisor, wanted):
    image = np.zeros((*size, 3), np.uint8)
    resize = Resize(scale, fit=fit, divisor=divisor)
    assert resize({"img": image, "img_shape": size})["img"].shape[:2] == wanted


def test_cubic_samples_are_neither_rounded_nor_cut_off():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    found = Resize((24, 24), cubic=True)({"img": image, "img_shape": (8, 8)})["img"]
    assert found.dtype == np.float32
    assert found.min() < -5
    assert found.max() > 260
    wanted = cv2.resize(image.astype(np.float64), (24, 24), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize(
    "settings", [dict(fit="around"), dict(divisor=14), dict(divisor=14, fit="cover", keep_ratio=False)]
)
def test_ways_to_fit_that_do_not_exist_are_reported(settings):
    with pytest.raises(ConfigError, match="fit is one of"):
        Resize((98, 98), **settings)


@pytest.mark.parametrize("between", [[], [RandomFlip(1.0)], [Pad(size=(150, 130))], [RandomCrop((40, 30))]])
def test_masks_drawn_for_their_boxes_are_the_ones_that_are_packed(between):
    """Drawn anew, or kept from the crop: the same pixels, whatever stands between."""
    found = []
    for seed in range(12):
        for forget in (False, True):
            np.random.seed(seed)
            results = RandomCrop((50, 40), boxes_from_masks=True, allow_empty=True).transform(scene())
            assert results["drawn_masks"][0] is results["gt_masks"]
            if forget:
                del results["drawn_masks"]
            for step in between:
                results = results and step.transform(results)
            found.append(packed_masks(results) if results else [np.zeros(0)])
    assert any(masks[0].any() for masks in found)
    for kept, anew in zip(found[::2], found[1::2], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(kept, anew, strict=True))
