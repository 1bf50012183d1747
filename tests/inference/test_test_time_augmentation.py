"""Several views of an image averaged: against each view predicted by itself and put together by hand."""

import cv2
import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate

import densevit.datasets.transforms
import densevit.models  # noqa: F401
from densevit.datasets.transforms.test_time_augmentation import TestTimeAugmentation, with_augmentation
from densevit.errors import ConfigError
from densevit.models import postprocess
from densevit.registry import MODELS, TRANSFORMS
from densevit.structures import DataSample

HEADS = dict(classes=dict(type="SemanticFPNHead", channels=8), depth=dict(type="FPNDepthHead", max_depth=9, channels=8))
RESIZE = [dict(type="Resize", scale=(96, 64), keep_ratio=True), dict(type="PackSample")]
SCALES = (0.5, 1.0, 1.75)


def build(**changes):
    torch.manual_seed(0)
    model = MODELS.build({**tiny.model_config(), "head": HEADS, **changes}).eval()
    for name, part in model.named_parameters():
        if "cls_pred" in name or "depth_pred" in name:  # predictions that differ from location to location
            torch.nn.init.normal_(part)
    return model


def loaded(size=(70, 110), seed=0) -> dict:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3)).astype(np.uint8), (0, 0), 4)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    return dict(
        img=image, img_id=seed, img_path=None, ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0), flip=False,
        gt_semantic=rng.integers(0, 3, size),
    )  # fmt: skip


def views_of(item: dict, steps, **settings) -> dict:
    return TRANSFORMS.build(dict(type="TestTimeAugmentation", steps=steps, **settings))(item)


def by_hand(model, item, sizes, flips):
    """The means of softmax and meters over views that are resized, flipped, predicted and brought back one by one."""
    image, classes, meters = item["img"], 0, 0
    for width, height in sizes:
        for flipped in flips:
            seen = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            seen = torch.from_numpy(np.ascontiguousarray(seen[:, ::-1] if flipped else seen)).permute(2, 0, 1)
            images = model.data_preprocessor(dict(inputs=[seen]))["inputs"]
            for name, maps in model.maps(images).items():
                maps = maps[:, :, :height, :width]
                maps = maps.flip(-1) if flipped else maps
                maps = F.interpolate(maps, size=image.shape[:2], mode="bilinear", align_corners=False)[0]
                if name == "classes":
                    classes = classes + maps.softmax(0)
                else:
                    meters = meters + maps[0]
    return (classes / len(sizes) / len(flips)).argmax(0), meters / len(sizes) / len(flips)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("inference", [None, dict(type="SlidingWindow", window=48, stride=32)])
@torch.inference_mode()
def test_views_are_averaged_as_one_after_the_other(flip, inference):
    model = build(inference=inference)
    items = [loaded(seed=seed) for seed in (0, 1)]
    batch = pseudo_collate([views_of(item, RESIZE, scales=SCALES, flip=flip) for item in items])
    sizes = [(48, 31), (96, 61), (168, 107)]  # the largest of the image's shape within (48, 32), (96, 64), (168, 112)
    for samples in (model.test_step(batch), model.val_step(batch)):
        for item, sample in zip(items, samples, strict=True):
            classes, meters = by_hand(model, item, sizes, (False, True) if flip else (False,))
            assert len(classes.unique()) > 1
            assert (sample.pred_semantic != classes).float().mean() < 1e-3  # rounding may turn a tie
            torch.testing.assert_close(sample.pred_depth, meters, rtol=1e-4, atol=1e-4)


def test_probabilities_are_made_in_parts_as_in_one_piece(monkeypatch):
    logits = 3 * torch.randn(7, 9, 11, generator=torch.Generator().manual_seed(0))
    sample = DataSample(metainfo=dict(img_shape=(33, 41), ori_shape=(70, 90), flip=True))
    whole = F.interpolate(logits[None], size=(36, 44), mode="bilinear")[:, :, :33, :41].flip(-1)
    whole = F.interpolate(whole, size=(70, 90), mode="bilinear")[0].softmax(0)
    for group in (1 << 24, 2 * 70 * 90, 500):
        monkeypatch.setattr(postprocess, "GROUP", group)
        torch.testing.assert_close(postprocess.rescale_probabilities(logits, sample, (36, 44)), whole)


@torch.inference_mode()
def test_one_view_that_is_the_image_itself_changes_nothing():
    model = build()
    item = loaded()
    plain = TRANSFORMS.build(RESIZE[0])(dict(item))
    alone = model.test_step(pseudo_collate([TRANSFORMS.build(RESIZE[1])(plain)]))[0]
    seen = model.test_step(pseudo_collate([views_of(item, RESIZE)]))[0]
    assert torch.equal(alone.pred_depth, seen.pred_depth)
    assert (alone.pred_semantic != seen.pred_semantic).float().mean() < 1e-3


@torch.inference_mode()
def test_a_flipped_image_is_predicted_in_the_original_images_frame():
    model = build()
    item = loaded((64, 96))
    steps = [dict(type="RandomFlip", prob=1.0), dict(type="PackSample")]
    flipped = dict(item)
    for step in steps:
        flipped = TRANSFORMS.build(step)(flipped)
    turned = dict(loaded((64, 96)), img=np.ascontiguousarray(item["img"][:, ::-1]))
    straight = model.test_step(pseudo_collate([TRANSFORMS.build(steps[1])(turned)]))[0]
    found = model.test_step(pseudo_collate([flipped]))[0]
    assert torch.equal(found.pred_semantic, straight.pred_semantic.flip(-1))
    assert torch.equal(found.pred_depth, straight.pred_depth.flip(-1))


def test_the_first_sample_has_the_ground_truth_and_views_have_none():
    item = loaded()
    packed = views_of(item, RESIZE, scales=(0.5, 2), flip=True)
    first, *views = packed["data_samples"]
    assert "gt_semantic" in first and first.img_shape == (61, 96) and not first.flip
    assert not any("gt_semantic" in view for view in views)
    assert [view.img_shape for view in views] == [(31, 48), (31, 48), (122, 192), (122, 192)]
    assert [view.flip for view in views] == [False, True, False, True]
    assert [tuple(x.shape[1:]) for x in packed["inputs"]] == [(61, 96)] + [view.img_shape for view in views]
    assert torch.equal(packed["inputs"][1].flip(-1), packed["inputs"][2])


def test_a_pipeline_is_split_before_resize_or_behind_the_loading():
    load, ground_truth, pack = dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="PackSample")
    assert with_augmentation([load, *RESIZE], None, False) == [load, *RESIZE]
    assert with_augmentation([load, RESIZE[0], ground_truth, pack], (0.5,), True) == [
        load, dict(type="TestTimeAugmentation", steps=[RESIZE[0], ground_truth, pack], scales=(0.5,), flip=True)
    ]  # fmt: skip
    (*head, views) = with_augmentation([load, ground_truth, pack], None, True)
    assert head == [load, ground_truth] and views["steps"] == [pack] and views["scales"] == (1.0,)
    packed = TestTimeAugmentation([pack], scales=(1.5, 1))(loaded((70, 111)))
    assert [tuple(x.shape[1:]) for x in packed["inputs"]] == [(70, 111), (105, 167), (70, 111)]


def test_mistakes_are_reported_in_a_sentence():
    with pytest.raises(ConfigError, match=r"scales above zero such as .*, not \(0, 1\)"):
        TestTimeAugmentation(RESIZE, scales=(0, 1))
    model = build(head=tiny.model_config()["head"])
    with pytest.raises(ConfigError, match=r"the mean of several views .* model.head, a RetinaNetHead, predicts none"):
        model.test_step(pseudo_collate([views_of(loaded(), RESIZE)]))
