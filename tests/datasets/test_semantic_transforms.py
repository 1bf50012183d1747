"""The training pipeline of class maps, step by step against the reference code's numbers on the same random draws."""

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip as McvRandomFlip
from mmcv.transforms import RandomResize as McvRandomResize
from mmcv.transforms import Resize as McvResize
from mmengine.registry import DefaultScope

from densevit.datasets.transforms.color import PhotometricDistortion
from densevit.datasets.transforms.geometry import Pad, RandomFlip, RandomResize, Resize
from densevit.datasets.transforms.loading import LoadImage
from densevit.datasets.transforms.pack import PackSample
from densevit.datasets.transforms.random_crop import RandomCrop, _count_classes
from densevit.errors import ConfigError
from densevit.models.preprocessor import Preprocessor


def scene(height=341, width=517, seed=0, blobs=40):
    """A smooth image and a class map of blobs, some of them ignored."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    classes = np.full((height, width), rng.integers(150), np.uint8)
    for _ in range(blobs):
        center, radius = (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(5, height // 3))
        cv2.circle(classes, center, radius, int(rng.choice([*range(150), 255])), -1)
    return image, classes


def ours(image, classes):
    return LoadImage().transform(dict(img=image.copy())) | dict(gt_semantic=classes.copy())


def theirs(image, classes):
    shape = image.shape[:2]
    return dict(
        img=image.copy(), gt_seg_map=classes.copy(), seg_fields=["gt_seg_map"], img_shape=shape, ori_shape=shape
    )


def assert_equal(found, expected):
    assert np.array_equal(found["img"], expected["img"])
    assert np.array_equal(found["gt_semantic"], expected["gt_seg_map"])


@pytest.mark.parametrize("size", [(341, 517), (512, 683), (300, 200), (97, 1200)])
def test_resizing_gives_mmcvs_image_and_class_map(size):
    for scale in ((2048, 512), (1024, 300), (256, 333)):
        for keep_ratio in (True, False):
            expected = McvResize(scale, keep_ratio=keep_ratio).transform(theirs(*scene(*size)))
            assert_equal(Resize(scale, keep_ratio).transform(ours(*scene(*size))), expected)


@pytest.mark.parametrize("seed", range(8))
def test_random_resizing_and_flipping_draw_and_give_what_mmcv_does(seed):
    with DefaultScope.overwrite_default_scope("mmcv"):
        random_resize = McvRandomResize((2048, 512), ratio_range=(0.5, 2.0), resize_type="mmcv.Resize", keep_ratio=True)
    for transform, reference in (
        (RandomResize((2048, 512), (0.5, 2.0)), random_resize),
        (RandomFlip(0.5), McvRandomFlip(0.5)),
    ):
        np.random.seed(seed)
        expected = reference.transform(theirs(*scene()))
        np.random.seed(seed)
        assert_equal(transform.transform(ours(*scene())), expected)


def crop_by_the_rule(image, classes, size, cat_max_ratio):
    """mmsegmentation's rule (1.2.2, RandomCrop), written from its definition: a window; while one of the first ten is
    too uniform, another."""
    height, width = size

    def draw():
        y = np.random.randint(0, max(image.shape[0] - height, 0) + 1)
        return y, np.random.randint(0, max(image.shape[1] - width, 0) + 1)

    y, x = draw()
    for _ in range(10):
        labels, counts = np.unique(classes[y : y + height, x : x + width], return_counts=True)
        counts = counts[labels != 255]
        if len(counts) > 1 and np.max(counts) / np.sum(counts) < cat_max_ratio:
            break
        y, x = draw()
    return image[y : y + height, x : x + width], classes[y : y + height, x : x + width]


@pytest.mark.parametrize("ratio", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("size", [(128, 128), (400, 64), (64, 700)])
def test_windows_are_those_of_the_category_rule(size, ratio):
    for seed in range(25):
        image, classes = scene(seed=seed, blobs=8)
        np.random.seed(seed)
        if ratio < 1:
            expected = crop_by_the_rule(image, classes, size, ratio)
        else:
            expected = crop_by_the_rule(
                image, np.arange(classes.size, dtype=np.int64).reshape(classes.shape), size, 1.1
            )
            expected = expected[0], classes.ravel()[expected[1]]
        after = np.random.random()
        np.random.seed(seed)
        found = RandomCrop(size[::-1], cat_max_ratio=ratio).transform(ours(image, classes))
        assert np.array_equal(found["img"], expected[0]) and np.array_equal(found["gt_semantic"], expected[1])
        assert np.random.random() == after  # as many draws
        assert found["img_shape"] == found["img"].shape[:2]


def test_an_image_of_one_class_or_of_none_is_cropped_all_the_same():
    image, classes = scene()
    for value in (7, 255):
        found = RandomCrop((100, 100), cat_max_ratio=0.75).transform(ours(image, np.full_like(classes, value)))
        assert found["gt_semantic"].shape == (100, 100)


def test_the_ratio_spreads_the_classes():
    """Most of the image is one class: with the rule most windows show another one too."""
    image, classes = scene(blobs=0)
    classes[:, :40] = 3
    shares = {}
    for ratio in (1.0, 0.95):
        np.random.seed(0)
        crop = RandomCrop((80, 80), cat_max_ratio=ratio)
        shares[ratio] = np.mean([(crop.transform(ours(image, classes))["gt_semantic"] == 3).any() for _ in range(200)])
    assert shares[1.0] < 0.2 and shares[0.95] > 0.5


def test_a_ratio_that_is_no_share_is_named():
    for ratio in (0, 1.5):
        with pytest.raises(ConfigError, match="cat_max_ratio of RandomCrop"):
            RandomCrop((8, 8), cat_max_ratio=ratio)


def distort_by_the_rule(image, brightness, contrast, saturation, hue, contrast_first):
    """mmsegmentation's PhotoMetricDistortion (1.2.2) for given draws; None leaves a step out, hue counts 0 to 179."""

    def convert(values, alpha=1.0, beta=0.0):
        return np.clip(values.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    image = convert(image, beta=brightness) if brightness is not None else image
    image = convert(image, alpha=contrast) if contrast is not None and contrast_first else image
    if saturation is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = convert(hsv[..., 1], alpha=saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if hue is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + hue) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return convert(image, alpha=contrast) if contrast is not None and not contrast_first else image


@pytest.mark.parametrize("seed", range(40))
def test_distorted_colors_are_the_reference_codes_up_to_rounding(seed):
    """The reference code rounds down after each step, this one rounds once or twice: a level or two of 255, more where
    a dark pixel has few hues."""
    image, _ = scene(seed=seed)
    np.random.seed(seed)
    chosen = np.random.randint(2, size=6).astype(bool)
    added, contrast = np.random.uniform(-32, 32), np.random.uniform(0.5, 1.5) if chosen[1] else None
    saturation = np.random.uniform(0.5, 1.5) if chosen[2] else None
    turn = round(np.random.uniform(-36, 36) / 2) if chosen[3] else None
    expected = distort_by_the_rule(image, added if chosen[0] else None, contrast, saturation, turn, chosen[4])
    np.random.seed(seed)
    found = PhotometricDistortion(hue=36, swap_channels=False).transform(dict(img=image.copy()))["img"]
    error = np.abs(found.astype(int) - expected.astype(int))
    assert error.mean() < 2.5 and np.percentile(error, 99) <= 16, (error.mean(), error.max())


def test_the_whole_pipeline_gives_mmsegmentations_batch():
    """Resize, crop and flip on the same draws, packing and the preprocessor: image and classes to the last bit."""
    mmseg = pytest.importorskip("mmseg")
    from mmseg.datasets.transforms import RandomCrop as SegRandomCrop
    from mmseg.models import SegDataPreProcessor

    assert mmseg.__version__ == "1.2.2"
    with DefaultScope.overwrite_default_scope("mmcv"):
        random_resize = McvRandomResize((2048, 512), ratio_range=(0.5, 2.0), resize_type="mmcv.Resize", keep_ratio=True)
    reference = [random_resize, SegRandomCrop((512, 512), cat_max_ratio=0.75), McvRandomFlip(0.5)]
    steps = [RandomResize((2048, 512), (0.5, 2.0)), RandomCrop((512, 512), cat_max_ratio=0.75), RandomFlip(0.5)]
    batch, expected = dict(inputs=[], data_samples=[]), dict(inputs=[], data_samples=[])
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    for seed in range(6):
        image, classes = scene(seed=seed, blobs=8)
        np.random.seed(seed)
        ground_truth = theirs(image, classes)
        for step in reference:
            ground_truth = step(ground_truth)
        np.random.seed(seed)
        results = ours(image, classes)
        for step in steps:
            results = step(results)
        assert_equal(results, ground_truth)
        packed = PackSample()(results)
        batch["inputs"].append(packed["inputs"])
        batch["data_samples"].append(packed["data_samples"])
        expected["inputs"].append(torch.from_numpy(np.ascontiguousarray(ground_truth["img"].transpose(2, 0, 1))))
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=torch.from_numpy(ground_truth["gt_seg_map"].astype(np.int64))[None])
        )
        expected["data_samples"].append(sample)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    theirs_prepared = SegDataPreProcessor(mean, std, size=(512, 512), bgr_to_rgb=True, pad_val=0, seg_pad_val=255)
    expected = theirs_prepared(expected, True)
    found = Preprocessor(train_size=(512, 512))(batch, True)
    assert found["inputs"].shape == expected["inputs"].shape == (6, 3, 512, 512)
    assert torch.equal(found["inputs"], expected["inputs"])
    for sample, other in zip(found["data_samples"], expected["data_samples"], strict=True):
        assert torch.equal(sample.gt_semantic, other.gt_sem_seg.data[0])


def test_pad_fills_image_and_class_map():
    image, classes = scene(60, 80)
    results = Pad((96, 70)).transform(ours(image, classes))
    assert results["img"].shape == (70, 96, 3) and results["img_shape"] == (60, 80)
    assert (results["img"][60:] == 0).all() and (results["gt_semantic"][60:] == 255).all()
    assert (results["gt_semantic"][:, 80:] == 255).all()
    assert np.array_equal(results["gt_semantic"][:60, :80], classes)


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (4100, 4100)])
def test_classes_of_a_window_are_counted_exactly(size):
    """Also beyond the whole numbers that OpenCV's float32 counts hold."""
    classes = np.random.default_rng(0).integers(0, 256, (size[0] + 2, size[1] + 3), dtype=np.uint8)
    classes[:, : size[1] // 2] = 7
    window = classes[1:-1, 2:-1]
    assert np.array_equal(_count_classes(window), np.bincount(window.ravel(), minlength=256))
