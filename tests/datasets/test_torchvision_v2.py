"""Transforms of torchvision by name: everything moves together, and an item is a pure function of its seed."""

import numpy as np
import pytest
from test_transforms import assert_agrees, scene

from densevit.datasets.seeding import seeded
from densevit.datasets.transforms.pack import PackSample
from densevit.engine.config import read_config
from densevit.errors import ConfigError
from densevit.registry import DATASETS, TRANSFORMS


def build(**options):
    return TRANSFORMS.build(dict(type="TorchVision", **options))


@pytest.mark.parametrize(
    "options",
    [
        dict(name="RandomHorizontalFlip", p=1.0),
        dict(name="RandomVerticalFlip", p=1.0),
        dict(name="CenterCrop", size=(40, 70)),
        dict(name="RandomCrop", size=(30, 30)),
        dict(name="Pad", padding=7),
        dict(name="RandomAffine", degrees=0, translate=(0.3, 0.3)),
    ],
    ids=lambda options: options["name"],
)
def test_labels_move_with_the_image(options):
    for seed in range(4):
        with seeded(seed, 0, 0):
            assert_agrees(build(**options).transform(scene()))


def test_resizing_and_turning_agree_but_for_borders():
    with seeded(3, 0, 0):
        turned = build(name="Resize", size=(120, 160), interpolation="nearest").transform(scene())
    assert turned["img_shape"] == (120, 160)
    assert_agrees(turned, tolerance=0.02)
    turned = build(name="RandomRotation", degrees=(90, 90), expand=True).transform(scene())
    assert turned["img_shape"] == (80, 60)
    assert_agrees(turned, tolerance=0.02)


def test_what_comes_from_outside_has_no_class_and_no_depth():
    results = build(name="Pad", padding=5).transform(scene())
    assert (results["gt_semantic"][:5] == 255).all() and (results["gt_depth"][:5] == 0).all()
    assert results["gt_semantic"].dtype == np.uint8 and results["gt_depth"].dtype == np.float32


def test_colors_touch_no_label_and_keep_the_order_of_channels():
    before, after = scene(), scene()
    before["img"][..., 0], after["img"][..., 0] = 250, 250  # blue
    after = build(name="ColorJitter", brightness=(0.5, 0.5)).transform(after)
    assert np.abs(after["img"].astype(int) - before["img"] * 0.5).max() <= 1
    assert after["gt_masks"] is not None and after["gt_masks"][0] is not before["gt_masks"][0]
    assert isinstance(after["gt_masks"][0], list)  # a polygon still
    blurred = build(name="GaussianBlur", kernel_size=5, sigma=2.0).transform(scene())
    assert isinstance(blurred["gt_masks"][0], list) and (blurred["img"] != scene()["img"]).any()


def test_an_item_is_a_pure_function_of_seed_epoch_and_index():
    steps = [
        dict(type="TorchVision", name="RandomAffine", degrees=30, translate=(0.1, 0.1)),
        dict(type="TorchVision", name="ColorJitter", brightness=0.5, hue=0.2),
        dict(type="PackSample"),
    ]
    dataset = DATASETS.build(dict(type="ScenesDataset", images=3, size=(64, 80), with_masks=True, pipeline=steps))
    first, again, other = dataset[(1, 0)], dataset[(1, 0)], dataset[(1, 1)]
    assert first["inputs"].equal(again["inputs"]) and not first["inputs"].equal(other["inputs"])
    masks, boxes = first["data_samples"].gt_instances.masks, first["data_samples"].gt_instances.bboxes
    assert len(masks) == len(boxes) and masks.shape[1:] == (64, 80)


def test_boxes_that_left_the_image_are_dropped_with_their_masks_when_packed():
    results = build(name="CenterCrop", size=(20, 20)).transform(scene())
    instances = PackSample().transform(results)["data_samples"].gt_instances
    assert len(instances.bboxes) == len(instances.masks) < 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(name="GausianBlur", kernel_size=5), "no transform 'GausianBlur' .nearest: 'GaussianBlur'"),
        (dict(name="GaussianBlur", kernal_size=5), "GaussianBlur cannot be made"),
        (dict(name="GaussianBlur", kernel_size=4), "GaussianBlur cannot be made"),
    ],
)
def test_unknown_names_and_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        build(**options)


@pytest.mark.parametrize("options", [dict(name="FiveCrop", size=20), dict(name="ToPILImage"), dict(name="Grayscale")])
def test_transforms_of_another_kind_of_image_are_refused(options):
    with pytest.raises(ConfigError, match=r"does not give one uint8 image with 3 channels|cannot be applied"):
        build(**options).transform(scene())


def test_a_config_may_name_it(tmp_path):
    config = read_config("pvt_retinanet_scenes")
    step = "dict(type='TorchVision', name='GaussianBlur', kernel_size=5)"
    text = config.pretty_text.replace("dict(type='PackSample')", f"{step}, dict(type='PackSample')", 1)
    (tmp_path / "mine.py").write_text(text)
    steps = read_config(tmp_path / "mine.py").train_dataloader.dataset.pipeline
    assert [step.type for step in steps].count("TorchVision") == 1
