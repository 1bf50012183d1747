"""Whatever people keep pictures in is read right or refused with one sentence."""

import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from torch._utils import ExceptionWrapper

from densevit.datasets.reading_images import BrokenImage
from densevit.datasets.transforms.loading import read_image
from densevit.errors import DataError


@pytest.fixture(scope="module")
def picture():
    """A smooth colour picture, RGB (48, 64, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


def encoded(image, form, **settings):
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA", "RGBA"])
def test_png_of_any_mode_gives_pillows_colours(picture, mode):
    data = encoded(Image.fromarray(picture).convert(mode), "PNG")
    image = read_image(data)
    assert image.dtype == np.uint8
    assert np.array_equal(image[..., ::-1], np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("form", ["BMP", "TIFF", "GIF", "WEBP"])
def test_other_formats_give_pillows_colours(picture, form):
    data = encoded(Image.fromarray(picture), form)
    assert np.array_equal(read_image(data)[..., ::-1], np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_any_mode_gives_pillows_colours(picture, mode):
    data = encoded(Image.fromarray(picture).convert(mode), "JPEG", quality=95)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read_image(data)[..., ::-1] - expected).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("colour", [True, False])
def test_sixteen_bits_are_scaled_to_eight(picture, tmp_path, suffix, colour):
    eight = picture if colour else np.ascontiguousarray(picture[..., 0])
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), eight.astype(np.uint16) * 257)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - (eight if colour else eight[..., None])).max() <= 1


def test_alpha_is_dropped_not_blended(picture):
    image = Image.fromarray(picture)
    image.putalpha(Image.fromarray(np.full((48, 64), 10, np.uint8)))
    assert np.array_equal(read_image(encoded(image, "PNG"))[..., ::-1], picture)


def rotated(picture, orientation=6, form="JPEG"):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(Image.fromarray(picture), form, exif=exif.tobytes())


def test_exif_orientation_is_applied(picture):
    image = read_image(rotated(picture))
    assert image.shape == (64, 48, 3)
    plain = read_image(encoded(Image.fromarray(picture), "JPEG"))
    assert np.abs(image.astype(int) - np.rot90(plain, -1)).mean() < 1


def test_annotations_decide_whether_exif_orientation_is_meant(picture):
    data = rotated(picture)
    assert read_image(data, size=(64, 48)).shape == (64, 48, 3)
    assert read_image(data, size=(48, 64)).shape == (48, 64, 3)
    with pytest.raises(BrokenImage, match=r"is 48x64 pixels, but its annotations were made for 50x70"):
        read_image(data, size=(70, 50))


def test_image_of_another_size_than_annotated_is_refused(picture, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(picture).save(path)
    with pytest.raises(BrokenImage, match=r"small.png is 64x48 pixels, but its annotations were made for 48x64"):
        read_image(path, size=(64, 48))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_refused(picture, tmp_path, form, share):
    data = encoded(Image.fromarray(picture), form)
    path = tmp_path / "torn.jpg"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BrokenImage, match=r"torn.jpg (is truncated|cannot be decoded).*\.$"):
        read_image(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused(picture):
    thumbnail = encoded(Image.fromarray(picture[::4, ::4]), "JPEG")
    data = encoded(Image.fromarray(picture), "JPEG", quality=95)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = data[:2] + segment + data[2:]
    assert read_image(data).shape == (48, 64, 3)
    with pytest.raises(BrokenImage, match="truncated"):
        read_image(data[:-200])


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(picture):
    data = encoded(Image.fromarray(picture), "JPEG")
    assert np.array_equal(read_image(data + b"\0" * 100), read_image(data))
    assert np.array_equal(read_image(data + b"\xff\xda more"), read_image(data))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", r"is empty \(0 bytes\)"), (b"no picture at all", "cannot be decoded"), (b"\xff\xd8\xff\xd9", "cannot be")],
)
def test_no_picture_is_refused_by_name(tmp_path, content, sentence):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"x.jpg {sentence}"):
        read_image(path)


def test_missing_files_and_folders_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.jpg does not exist\.$"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=r"is a folder, not an image\.$"):
        read_image(tmp_path)


def test_the_sentence_survives_a_loader_worker():
    try:
        raise BrokenImage("Image /a/b.jpg is empty.")
    except BrokenImage:
        wrapped = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker process 0")))
    with pytest.raises(BrokenImage) as caught:
        wrapped.reraise()
    assert str(caught.value) == "Image /a/b.jpg is empty."
