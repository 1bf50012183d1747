"""Whatever people keep pictures in is read right or refused with one sentence."""

import io
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image
from torch._utils import ExceptionWrapper

from densevit.datasets.io.image import BrokenImage, image_endings, pillow_pixels, stated_size
from densevit.datasets.io.jpeg import open_image
from densevit.datasets.transforms.loading import read_image
from densevit.errors import DataError


@pytest.fixture(scope="module")
def picture():
    """A smooth color picture, RGB (48, 64, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC)


def encoded(image, form, **settings):
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA", "RGBA"])
def test_png_of_any_mode_gives_pillows_colors(picture, mode):
    data = encoded(Image.fromarray(picture).convert(mode), "PNG")
    image = read_image(data)
    assert image.dtype == np.uint8
    assert np.array_equal(image[..., ::-1], np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("form", ["BMP", "TIFF", "GIF", "WEBP"])
def test_other_formats_give_pillows_colors(picture, form):
    data = encoded(Image.fromarray(picture), form)
    assert np.array_equal(read_image(data)[..., ::-1], np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_any_mode_gives_pillows_colors(picture, mode):
    data = encoded(Image.fromarray(picture).convert(mode), "JPEG", quality=95)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read_image(data)[..., ::-1] - expected).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("color", [True, False])
def test_sixteen_bits_are_scaled_to_eight(picture, tmp_path, suffix, color):
    eight = picture if color else np.ascontiguousarray(picture[..., 0])
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), eight.astype(np.uint16) * 257)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - (eight if color else eight[..., None])).max() <= 1


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


WAYS = [
    *[("PNG", mode) for mode in ("RGB", "RGBA", "LA", "L", "P", "1", "I;16")],
    *[("TIFF", mode) for mode in ("RGB", "RGBA", "LA", "L", "P", "1", "I;16", "CMYK")],
    *[("WEBP", mode) for mode in ("RGB", "RGBA")],
    *[("AVIF", mode) for mode in ("RGB", "RGBA")],
    *[("GIF", mode) for mode in ("L", "P", "RGBA")],
    *[("JPEG", mode) for mode in ("RGB", "L")],
    *[("JPEG2000", mode) for mode in ("RGB", "L", "I;16")],
    *[("PPM", mode) for mode in ("RGB", "L", "1", "I;16")],
    *[(form, "RGB") for form in ("BMP", "TGA", "PCX", "SGI", "DDS", "QOI", "ICO")],
]


def in_mode(picture, mode):
    """The picture with its left half transparent where the mode has alpha."""
    if mode == "I;16":
        return Image.fromarray(picture[..., 0].astype(np.uint16) * 256 + picture[..., 1])
    image = Image.fromarray(picture).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(np.where(np.arange(64) < 32, 0, 200).astype(np.uint8)[None].repeat(48, 0)))
    return image


@pytest.mark.parametrize(("form", "mode"), WAYS)
@pytest.mark.parametrize("orientation", [None, 6])
def test_a_file_and_what_pillow_opens_of_it_are_the_same_picture(picture, form, mode, orientation):
    settings = {} if form not in ("WEBP", "AVIF") else dict(lossless=True) if form == "WEBP" else dict(quality=100)
    settings |= dict(sizes=[(64, 48)]) if form == "ICO" else {}
    if orientation is not None:
        if form not in ("PNG", "TIFF", "WEBP", "AVIF", "JPEG"):
            pytest.skip("has no EXIF")
        settings["exif"] = Image.Exif()
        settings["exif"][0x0112] = orientation
    data = encoded(in_mode(picture, mode), form, **settings)
    image = read_image(data)
    assert image.shape == ((64, 48, 3) if orientation == 6 else (48, 64, 3)) and image.flags.c_contiguous
    assert np.array_equal(pillow_pixels(Image.open(io.BytesIO(data)), "it"), image[..., ::-1])
    if mode in ("RGB", "RGBA", "I;16") and form != "GIF":  # and it is that picture, with alpha dropped, not blended
        upright = np.rot90(image) if orientation == 6 else image
        off = np.abs(upright[..., ::-1].astype(int) - (picture[..., :1] if mode == "I;16" else picture))
        assert off[:, 32:].mean() < 5 and (form in ("AVIF", "WEBP") or off.mean() < 5)  # those do not keep the rest


@pytest.mark.parametrize("compression", ["zstd", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tiff_of_any_compression_is_read(picture, compression, mode, capfd):
    data = encoded(Image.fromarray(picture).convert(mode), "TIFF", compression=compression)
    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read_image(data)[..., ::-1] - expected).max() <= 1
    assert capfd.readouterr().err == ""  # OpenCV is not asked for what it does not know


@pytest.mark.parametrize("kind", [bytearray, memoryview, io.BytesIO])
def test_contents_are_taken_in_any_form(picture, kind):
    data = encoded(Image.fromarray(picture), "PNG")
    source = kind(data)
    if kind is io.BytesIO:
        source.read()  # a file object is read from its start, as Pillow does
    assert np.array_equal(read_image(source), read_image(data))


def test_file_objects_that_give_no_bytes_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with open(tmp_path / "a.txt") as file, pytest.raises(BrokenImage, match="mode 'rb'"):
        read_image(file)
    with pytest.raises(BrokenImage, match="cannot be read from TextIOWrapper"):
        read_image(file)
    with pytest.raises(BrokenImage, match="null byte"):
        read_image("a\0b.png")


@pytest.mark.parametrize("form", ["TIFF", "PFM", "HDR"])
def test_floating_point_files_are_refused(picture, form, tmp_path):
    values = picture.astype(np.float32) / 255
    if form == "HDR":
        cv2.imwrite(str(tmp_path / "a.hdr"), values)
        data = (tmp_path / "a.hdr").read_bytes()
    else:
        data = encoded(Image.fromarray(values[..., 0]), "TIFF" if form == "TIFF" else "PPM")
    with pytest.raises(BrokenImage, match=r"(floating-point numbers|32 bits).*8"):
        read_image(data)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits_are_refused_also_through_pillow(mode):
    with pytest.raises(BrokenImage, match=f"32 bits .Pillow's mode {mode}."):
        pillow_pixels(Image.new(mode, (4, 4)), "it")
    with pytest.raises(BrokenImage, match=f"32 bits .Pillow's mode {mode}."):
        read_image(encoded(Image.new(mode, (4, 4)), "TIFF"))


def stated(form, height, width):
    """A file of a few bytes whose header states a size, in `form`."""
    if form == "PNG":
        header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
        parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    if form == "PPM":
        return b"P6 %d %d 255\n" % (width, height) + bytes(100)
    if form == "BMP":
        data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        data[18:26] = struct.pack("<ii", width, height)
        return bytes(data)
    if form == "TIFF":
        data = bytearray(encoded(Image.new("L", (8, 8)), "TIFF"))
        (first,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, first)[0]):
            location = first + 2 + 12 * i
            (tag,) = struct.unpack_from("<H", data, location)
            if tag in (256, 257):
                struct.pack_into("<HII", data, location + 2, 4, 1, width if tag == 256 else height)
        return bytes(data)
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG", quality=50, exif=Image.Exif()))
    location = data.index(b"\xff\xc0")
    data[location + 5 : location + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("read", [read_image, open_image])
def test_a_size_is_compared_before_anything_is_decoded(form, read, monkeypatch):
    monkeypatch.setattr("densevit.datasets.io.image._decode", None)  # whoever decodes fails
    data = stated(form, 30000, 31000)
    with pytest.raises(BrokenImage, match="is 31000x30000 pixels, but its annotations were made for 96x96"):
        read(data, (96, 96))
    with pytest.raises(BrokenImage, match="31000x30000 pixels, and 268,435,456 are read at most"):
        read(data)
    with pytest.raises(BrokenImage, match="31000x30000 pixels, and 268,435,456 are read at most"):
        read(data, (31000, 30000))


def test_the_header_of_a_jpeg_is_found_behind_whatever_stands_before(picture):
    data = encoded(Image.fromarray(picture), "JPEG", progressive=True, exif=Image.Exif(), icc_profile=bytes(70_000))
    assert stated_size(data) == (48, 64)
    assert stated_size(data[:2] + b"\xff\xff\xff" + data[2:]) == (48, 64)  # fill bytes
    thumbnail = encoded(Image.fromarray(picture[:8, :8]), "JPEG")
    inside = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert stated_size(data[:2] + inside + data[2:]) == (48, 64)
    assert stated_size(b"\xff\xd8\xff\xd9") == (0, 0) and stated_size(b"GIF89a") is None


def test_pillows_limit_is_neither_felt_nor_changed(picture, monkeypatch):
    """Each format that Pillow reads for us, at a thousandth of its limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in ("TIFF", "WEBP", "GIF", "TGA", "AVIF", "BMP", "JPEG2000"):
            data = encoded(Image.fromarray(picture), form)
            with ThreadPoolExecutor(4) as pool:
                assert [image.shape for image in pool.map(read_image, [data] * 8)] == [(48, 64, 3)] * 8
        assert open_image(encoded(Image.fromarray(picture), "JPEG")).shape == (48, 64, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.slow
def test_182_megapixels_of_tiff_are_read():
    image = Image.new("1", (14000, 13000))
    image.paste(1, (100, 100, 5000, 5000))
    found = read_image(encoded(image, "TIFF", compression="group4"))
    assert found.shape == (13000, 14000, 3) and (found[200:4000:500, 200:4000:500] == 255).all()


def test_what_starts_another_program_is_not_read(monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    with pytest.raises(BrokenImage, match="cannot be decoded as an image"):
        read_image(encoded(Image.new("RGB", (8, 8)), "EPS"))


def test_endings_are_those_of_formats_that_are_read():
    assert {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".avif", ".tif", ".tga", ".jp2"} <= image_endings()
    assert image_endings().isdisjoint({".eps", ".ps", ".mpg", ".h5", ".pfm", ".npy", ".json", ".txt", ".pdf"})
