"""Depth walks through every transform with its image: meters stay meters, holes stay holes, the KB crop comes back."""

import numpy as np
import pytest
import torch
from tiny_depth import make_tiny_depth, put_depth, put_image, tiny_depth, tiny_depth_dataset

import densevit.datasets  # noqa: F401
from densevit.datasets.transforms.test_time_augmentation import with_augmentation
from densevit.errors import ConfigError, DataError
from densevit.metrics import DepthMetric
from densevit.models.postprocess import rescale_map
from densevit.ops.depth_crops import CROPS, kb_window
from densevit.registry import DATASETS

LOAD, GROUND_TRUTH, PACK = dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackSample")
KITTI = (375, 1242)


def build(tree, steps, **settings):
    dataset = DATASETS.build(tiny_depth_dataset(tree, pipeline=steps, **settings))
    dataset.full_init()
    return dataset


@pytest.mark.parametrize(
    "steps",
    [
        [dict(type="RandomFlip", prob=1.0)],
        [dict(type="RandomCrop", size=(40, 30))],
        [dict(type="Resize", scale=(128, 96))],
        [dict(type="Resize", scale=(128, 96)), dict(type="RandomCrop", size=(70, 50)), dict(type="RandomFlip", prob=1)],
        [dict(type="RandomResize", scale=(64, 48), ratio_range=(0.7, 1.6)), dict(type="RandomCrop", size=(40, 30))],
    ],
    ids=lambda steps: "+".join(step["type"] for step in steps),
)  # fmt: skip
def test_depth_moves_with_its_image(tmp_path, steps):
    """The depth of a pixel is its column here, and so is the image's green."""
    put_image(tmp_path / "rgb/a.png", 7)
    columns = np.tile(np.arange(64.0), (48, 1))
    columns[10:20, 30:50] = 0
    put_depth(tmp_path / "depth/a.png", columns)
    dataset = build(tmp_path, [LOAD, GROUND_TRUTH, *steps, PACK])
    for epoch in range(5):
        item = dataset[0, epoch]
        green, depth = item["inputs"][1].float(), item["data_samples"].gt_depth
        assert depth.shape == green.shape
        known = depth > 0
        assert (depth[known] - green[known]).abs().max() <= 1  # nearest beside bilinear
        assert set(depth.unique().tolist()) <= set(range(64))  # no depth that was not there
        assert 0.5 < known.float().mean() < 1


def kitti_tree(folder, size=KITTI):
    put_image(folder / "rgb/a.png", 3, size)
    put_depth(folder / "depth/a.png", tiny_depth(3, size) * 8, 256)
    return folder


@pytest.mark.parametrize("size", [KITTI, (370, 1224), (376, 1241), (352, 1216)])
def test_the_kb_crop_is_at_the_bottom_in_the_middle(tmp_path, size):
    dataset = build(kitti_tree(tmp_path, size), [LOAD, GROUND_TRUTH, dict(type="KBCrop"), PACK], depth_scale=256)
    item, whole = dataset[0], tiny_depth(3, size) * 8
    top, left = size[0] - 352, int((size[1] - 1216) / 2)
    assert item["inputs"].shape == (3, 352, 1216)
    assert (item["inputs"][1] == (torch.arange(1216) + left) % 256).all()
    np.testing.assert_allclose(item["data_samples"].gt_depth, whole[top:, left : left + 1216], atol=1 / 512)
    sample = item["data_samples"]
    assert sample.window == (top, left, 352, 1216) and sample.ori_shape == size and sample.img_shape == (352, 1216)


@pytest.mark.parametrize("flip", [False, True])
def test_predictions_in_the_kb_crop_come_back_into_the_whole_image(tmp_path, flip):
    steps = [LOAD, dict(type="KBCrop"), dict(type="Resize", scale=(608, 176)), GROUND_TRUTH]
    steps += [dict(type="RandomFlip", prob=float(flip)), PACK]
    sample = build(kitti_tree(tmp_path), steps, depth_scale=256, test_mode=True)[0]["data_samples"]
    assert "gt_depth" not in sample and sample.original_depth.shape == KITTI
    ramp = torch.linspace(1, 2, 608).expand(1, 176, 608)
    found = rescale_map(ramp.flip(-1) if flip else ramp, sample)[0]
    assert found.shape == KITTI
    top, bottom, left, right = kb_window(*KITTI)
    inside = found[top:bottom, left:right]
    expected = torch.nn.functional.interpolate(ramp[None], size=(352, 1216), mode="bilinear")[0, 0]
    assert torch.allclose(inside, expected) and found.count_nonzero() == inside.numel()


@pytest.mark.parametrize("crop", ["garg", "eigen", "kb_garg", "kb_eigen"])
def test_the_metrics_of_the_kb_crop_are_those_of_maps_cropped_alike(tmp_path, crop):
    steps = [LOAD, dict(type="KBCrop"), dict(type="Resize", scale=(1216, 352)), GROUND_TRUTH, PACK]
    sample = build(kitti_tree(tmp_path), steps, depth_scale=256, test_mode=True)[0]["data_samples"]
    predicted = 20 + 10 * torch.rand((352, 1216), generator=torch.Generator().manual_seed(0))
    sample.set_data(dict(pred_depth=rescale_map(predicted[None], sample)[0]))
    metric = DepthMetric(max_depth=80, crop=crop)
    metric.process(None, [sample.to_dict()])
    ground_truth = sample.original_depth
    top, bottom, left, right = kb_window(*KITTI)
    if crop.startswith("kb_"):
        ground_truth, shown = ground_truth[top:bottom, left:right], predicted
    else:
        shown = torch.zeros(KITTI)
        shown[top:bottom, left:right] = predicted
    first, end, start, stop = CROPS[crop.removeprefix("kb_")](*ground_truth.shape)
    window = slice(first, end), slice(start, stop)
    ground_truth, shown = ground_truth[window], shown[window]
    known = (ground_truth > 1e-3) & (ground_truth < 80)
    expected = ((ground_truth - shown).abs() / ground_truth)[known].mean()
    assert metric.evaluate(1)["depth/abs_rel"] == pytest.approx(float(expected), rel=1e-5)


def test_several_views_are_views_of_the_crop(tmp_path):
    def scoped(steps):
        return [dict(step, type=f"densevit.{step['type']}") for step in steps]

    for resize in ([], [dict(type="Resize", scale=(608, 176))]):
        steps = scoped([LOAD, dict(type="KBCrop"), *resize, GROUND_TRUTH, PACK])
        dataset = build(kitti_tree(tmp_path), [], depth_scale=256, test_mode=True)
        viewed = [dict(step) for step in with_augmentation(steps, (0.5, 1), True)]
        viewed[-1]["type"] = "densevit.TestTimeAugmentation"
        dataset = DATASETS.build(dict(tiny_depth_dataset(tmp_path, depth_scale=256), pipeline=viewed, test_mode=True))
        item = dataset[0]
        wide = 608 if resize else 1216
        assert [image.shape[-1] for image in item["inputs"]] == [wide, wide // 2, wide // 2, wide, wide]
        assert [sample.flip for sample in item["data_samples"]] == [False, False, True, False, True]
        assert all(sample.window == (23, 13, 352, 1216) for sample in item["data_samples"])
        assert "original_depth" in item["data_samples"][0]
        assert all(not list(sample.keys()) for sample in item["data_samples"][1:])


def test_the_kb_crop_tells_its_place_and_its_images(tmp_path):
    with pytest.raises(ConfigError, match="put it right behind LoadImage"):
        build(kitti_tree(tmp_path), [LOAD, dict(type="Resize", scale=(1216, 400)), dict(type="KBCrop"), PACK])[0]
    small = make_tiny_depth(tmp_path / "small")
    with pytest.raises(DataError, match=r"000.png is 64x48 pixels, and KBCrop cuts 1216x352 out of KITTI's images"):
        build(small, [LOAD, dict(type="KBCrop"), PACK])[0]
    inner = build(small, [LOAD, GROUND_TRUTH, dict(type="KBCrop", size=(32, 40)), PACK])[0]["data_samples"]
    assert np.array_equal(inner.gt_depth.numpy(), tiny_depth(0)[8:, 16:48])
