"""A JPEG decoded at a fraction of its size is the same picture, in the same location; everything else stays as it
was."""

import io

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from PIL import Image

from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.io.jpeg import LazyJpeg, open_image
from densevit.datasets.transforms.color import PhotometricDistortion
from densevit.datasets.transforms.geometry import RandomFlip, Resize
from densevit.datasets.transforms.kb_crop import KBCrop
from densevit.datasets.transforms.loading import LoadImage
from densevit.datasets.transforms.pack import PackSample
from densevit.datasets.transforms.random_crop import RandomCrop
from densevit.datasets.transforms.test_time_augmentation import TestTimeAugmentation
from densevit.errors import ConfigError
from densevit.registry import TRANSFORMS


def smooth(height, width, seed=0):
    """A picture (H, W, 3) of a few waves: at a fraction of its size it still says where everything is."""
    y, x = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(x + y / 3), np.cos(y - x / 2), np.sin(x * 0.7 + y)], axis=-1)
    return (128 + 100 * waves).round().astype(np.uint8)


def jpeg(image, orientation=None, **settings):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, exif=exif.tobytes(), **settings)
    return buffer.getvalue()


def store(folder, data, name="photo.jpg"):
    path = folder / name
    path.write_bytes(data)
    return dict(img_path=str(path))


def decoded_sizes(monkeypatch):
    """Sizes of what OpenCV decodes from here on."""
    sizes, decode = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: sizes.append(decode(*given).shape[:2]) or decode(*given))
    return sizes


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("size", [(480, 640), (477, 635), (475, 633)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_objects_are_where_they_are_without_reducing(tmp_path, monkeypatch, orientation, size, factor):
    entry = store(tmp_path, jpeg(smooth(*size), orientation))
    side = 470 // factor
    steps = [Resize((1000, side)), PackSample()]
    plain = Compose([LoadImage(), *steps])(dict(entry))
    sizes = decoded_sizes(monkeypatch)
    found = Compose([LoadImage(reduced=True), *steps])(dict(entry))
    assert [sorted(-(-side // factor) for side in size)] == [sorted(got) for got in sizes]
    assert plain["data_samples"].metainfo == found["data_samples"].metainfo
    difference = np.abs(plain["inputs"].numpy().astype(int) - found["inputs"].numpy())
    # the pictures' steepest slope is 2.5 a pixel of the file: a shift of one reduced pixel would be seen at once
    assert difference.max() <= 3 + 1.2 * factor and difference.mean() < 0.3 + 0.1 * factor


def test_the_smallest_decoding_that_is_large_enough_is_taken(monkeypatch):
    data = jpeg(smooth(400, 600))
    sizes = decoded_sizes(monkeypatch)
    asked = ((50, 75), (51, 75), (50, 76), (100, 150), (101, 150), (200, 300), (200, 301), (400, 600), (500, 20))
    for size in asked:
        assert open_image(data).resized(size).shape == (*size, 3)
    assert [600 // width for _, width in sizes] == [8, 4, 4, 4, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("target", [(300, 400), (250, 333), (700, 900), (480, 40)])
def test_nothing_changes_where_the_target_is_more_than_half(tmp_path, target, cubic):
    entry = store(tmp_path, jpeg(smooth(477, 635), orientation=6))
    resize = Resize(target[::-1], keep_ratio=False, cubic=cubic)
    plain, found = (resize(LoadImage(reduced=reduced)(dict(entry))) for reduced in (False, True))
    assert found["img"].dtype == plain["img"].dtype
    assert np.array_equal(plain["img"], found["img"])
    assert {k: plain[k] for k in plain if k != "img"} == {k: found[k] for k in found if k != "img"}


def test_cubic_sampling_is_reduced_too():
    image = smooth(475, 633)
    data = jpeg(image)
    expected = cv2.resize(read_image(data).astype(np.float32), (79, 59), interpolation=cv2.INTER_CUBIC)
    found = open_image(data).resized((59, 79), cubic=True)
    assert found.dtype == np.float32 and np.abs(found - expected).mean() < 2


@pytest.mark.parametrize("kind", ["RandomResize", "RandomChoiceResize"])
def test_random_scales_are_drawn_as_ever(tmp_path, kind):
    entry = store(tmp_path, jpeg(smooth(480, 640)))
    scales = (
        dict(scale=(320, 240), ratio_range=(0.1, 2.0)) if kind == "RandomResize" else dict(scales=[(64, 48), (9, 7)])
    )
    resize, boxes = TRANSFORMS.build(dict(type=kind, **scales)), np.array([[3, 5, 600, 470]], np.float32)
    for seed in range(8):
        seen = []
        for reduced in (False, True):
            np.random.seed(seed)
            results = resize(LoadImage(reduced=reduced)(dict(entry)) | dict(gt_bboxes=boxes))
            seen.append((results["img"].shape, results["scale_factor"], results["ori_shape"], np.random.random()))
            seen[-1] += tuple(results["gt_bboxes"].ravel().tolist())
        assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("color.png", smooth(96, 128)),
        ("deep.png", smooth(96, 128).astype(np.uint16) * 257),
        ("gray.png", smooth(96, 128)[..., 0]),
        ("color.webp", smooth(96, 128)),
    ],
)
def test_other_formats_are_read_as_ever(tmp_path, name, image):
    cv2.imwrite(str(tmp_path / name), image)
    plain, found = (LoadImage(reduced=reduced)(dict(img_path=str(tmp_path / name))) for reduced in (False, True))
    assert isinstance(found["img"], np.ndarray) and np.array_equal(plain["img"], found["img"])


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_any_mode_become_color(mode, progressive):
    buffer = io.BytesIO()
    image = Image.fromarray(smooth(240, 320)).convert(mode)
    image.save(buffer, "JPEG", quality=95, progressive=progressive)
    found = open_image(buffer.getvalue()).resized((30, 40))
    expected = cv2.resize(read_image(buffer.getvalue()), (40, 30), interpolation=cv2.INTER_AREA)
    assert found.shape == (30, 40, 3) and np.abs(found.astype(int) - expected).mean() < 3


def test_annotations_decide_whether_exif_orientation_is_meant():
    data = jpeg(smooth(48, 64), orientation=6)
    for size in ((64, 48), (48, 64)):
        image = open_image(data, size=size)
        assert image.shape == (*size, 3)
        assert np.array_equal(image.resized(size), read_image(data, size=size))
        assert image.resized((8, 6)).shape == (8, 6, 3)
    with pytest.raises(BrokenImage, match=r"is 48x64 pixels, but its annotations were made for 50x70"):
        open_image(data, size=(70, 50))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_torn_files_are_refused(tmp_path, share):
    data = jpeg(smooth(200, 300))
    entry = store(tmp_path, data[: max(3, int(len(data) * share))], "torn.jpg")
    with pytest.raises(BrokenImage, match=r"torn.jpg (is truncated|cannot be decoded).*\.$"):
        Resize((30, 20))(LoadImage(reduced=True)(dict(entry)))


def test_a_file_that_holds_another_size_than_its_header_says_is_refused():
    with pytest.raises(BrokenImage, match=r"photo cannot be decoded as an image"):
        LazyJpeg("photo", jpeg(smooth(48, 64)), (48, 80), 1).resized((6, 10))
    with pytest.raises(BrokenImage, match=r"photo cannot be decoded as an image"):
        LazyJpeg("photo", b"\xff\xd8 no picture \xff\xd9", (48, 64), 1).resized((6, 8))


@pytest.mark.parametrize(
    "step", [RandomFlip(prob=1.0), RandomCrop((8, 8)), KBCrop((8, 8)), PhotometricDistortion(), PackSample()]
)
def test_what_stands_before_resize_is_named(tmp_path, step):
    entry = store(tmp_path, jpeg(smooth(48, 64)))
    with pytest.raises(
        ConfigError, match=rf"{type(step).__name__} stands between LoadImage\(reduced=True\) and Resize"
    ):
        Compose([LoadImage(reduced=True), step])(dict(entry))


def test_a_foreign_transform_gets_no_array_of_an_unread_image(tmp_path):
    unread = LoadImage(reduced=True)(store(tmp_path, jpeg(smooth(48, 64))))["img"]
    with pytest.raises(ConfigError, match="put Resize"):
        np.asarray(unread)


def test_views_decode_each_size_of_its_own(tmp_path):
    entry = store(tmp_path, jpeg(smooth(480, 640)))
    steps = [dict(type="Resize", scale=(64, 48)), dict(type="PackSample")]
    views = Compose([LoadImage(reduced=True), TestTimeAugmentation(steps, scales=(1.0, 2.0), flip=True)])(dict(entry))
    assert [tuple(image.shape[1:]) for image in views["inputs"]] == [(48, 64)] * 3 + [(96, 128)] * 2
