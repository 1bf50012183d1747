"""Depth files of every kind give meters, holes stay holes, and what is no depth is reported in a sentence."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest

from densevit.datasets.io.depth import DepthReader, depth_size, read_numbers
from densevit.datasets.io.exr import _header, _unzip
from densevit.datasets.io.image import BrokenImage


def formula() -> np.ndarray:
    """What tests/data/depth/*.exr hold, written by the OpenEXR library, version 3.5."""
    y, x = np.mgrid[:37, :23]
    depth = 1 + x / 4 + y / 8
    depth[3, 5], depth[4, 6], depth[5, 7], depth[6, 8] = 0, np.nan, np.inf, -1
    return depth


def without_holes(depth: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


@pytest.mark.parametrize("scale", [1000, 256, 5000])
def test_sixteen_bits_are_divided_by_the_scale_and_nought_stays_a_hole(tmp_path, scale):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    values[values < 9000] = 0
    cv2.imwrite(str(tmp_path / "a.png"), values)
    depth = DepthReader(scale)(tmp_path / "a.png")
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, values / scale, rtol=1e-7)
    assert np.array_equal(depth == 0, values == 0) and (depth == 0).sum() > 10


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_nan_infinity_and_what_is_behind_the_camera_are_holes(tmp_path, kind):
    np.save(tmp_path / "a.npy", formula().astype(kind))
    depth = DepthReader(1)(tmp_path / "a.npy")
    assert depth.dtype == np.float32 and np.array_equal(depth, without_holes(formula()))
    assert (depth == 0).sum() == 4


@pytest.mark.parametrize("shape", [(1, 6, 9), (6, 9, 1), (6, 9)])
def test_whole_numbers_and_an_axis_of_one_are_fine_in_npy(tmp_path, shape):
    values = np.arange(54, dtype=np.int32).reshape(6, 9) * 100
    np.save(tmp_path / "a.npy", values.reshape(shape))
    assert np.allclose(DepthReader(1000)(tmp_path / "a.npy"), values / 1000)
    assert depth_size(tmp_path / "a.npy") == (6, 9)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        *(("half_zip", 1), ("float_zips", 1)),
        ("float_plain", 1),  # not compressed, among three channels, the one ViewLayer.Depth.Z
        ("uint_zip", 8),
    ],
)
def test_exr_files_of_the_library_give_what_was_written(root, name, scale):
    path = root / f"tests/data/depth/{name}.exr"
    found = DepthReader(scale)(path)
    assert np.array_equal(found, without_holes(formula()))
    assert depth_size(path) is None


def test_an_exr_that_would_not_shrink_is_read_as_it_is_stored(root):
    noise = np.random.default_rng(0).random((37, 23)).astype(np.float32)
    assert np.array_equal(read_numbers(root / "tests/data/depth/noise_zip.exr"), noise)


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1, r"a.png is 51,230 m: millimeters\? set depth_scale"), (10, r"a.png is 5,123 m: is depth_scale=10 r")],
)
def test_a_wrong_unit_is_reported(tmp_path, scale, said):
    values = np.full((4, 5), 2000, np.uint16)
    values[2, 3] = 51230
    cv2.imwrite(str(tmp_path / "a.png"), values)
    with pytest.raises(BrokenImage, match=rf"The largest depth in {tmp_path}/{said}"):
        DepthReader(scale)(tmp_path / "a.png")
    assert DepthReader(1000)(tmp_path / "a.png").max() == np.float32(51.23)
    assert DepthReader(1, max_depth=60_000)(tmp_path / "a.png").max() == 51230


def test_files_that_hold_no_depth_are_named(root, tmp_path):
    def said(name: str) -> str:
        with pytest.raises(BrokenImage) as error:
            read_numbers(tmp_path / name)
        assert str(error.value).startswith(f"Depth map {tmp_path / name} ") and str(error.value).endswith(".")
        return str(error.value)

    cv2.imwrite(str(tmp_path / "eight.png"), np.full((4, 5), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "colors.png"), np.full((4, 5, 3), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.full((4, 5, 3), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "whole.png"), np.arange(20_000, dtype=np.uint16).reshape(100, 200))
    (tmp_path / "torn.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    (tmp_path / "empty.png").write_bytes(b"")
    np.save(tmp_path / "stack.npy", np.ones((2, 4, 5)))
    np.save(tmp_path / "words.npy", np.array([["near", "far"]]))
    np.save(tmp_path / "objects.npy", np.array([[None, 1]]), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.ones((40, 50)))
    (tmp_path / "torn.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:999])
    for name in ("half_piz", "two_unknown"):
        (tmp_path / f"{name}.exr").write_bytes((root / f"tests/data/depth/{name}.exr").read_bytes())
    assert "8 bits" in said("eight.png")
    assert "in colors" in said("colors.png")
    assert "no 16-bit PNG, no NPY and no EXR" in said("photo.jpg")
    assert "truncated or damaged (3000 bytes of a PNG)" in said("torn.png")
    assert "is empty" in said("empty.png")
    assert "does not exist" in said("nowhere.png")
    assert "has the shape (2, 4, 5)" in said("stack.npy")
    assert "holds no numbers but <U4" in said("words.npy")
    assert "holds no numbers but object" in said("objects.npy")  # nothing is run from a file
    assert "truncated or damaged (999 bytes" in said("torn.npy")
    assert "an EXR of PIZ" in said("half_piz.exr")
    assert "has the channels a, c, none of them" in said("two_unknown.exr")


@pytest.mark.parametrize("name", ["half_zip", "float_plain"])
def test_a_torn_exr_is_named_wherever_it_is_torn(root, tmp_path, name):
    data = (root / f"tests/data/depth/{name}.exr").read_bytes()
    for length in range(8, len(data) - 1, 97):
        (tmp_path / "torn.exr").write_bytes(data[:length])
        with pytest.raises(BrokenImage, match="truncated or damaged"):
            read_numbers(tmp_path / "torn.exr")


def test_an_exr_that_leads_back_or_leaves_rows_out_is_damaged(root, tmp_path):
    """A length below zero would be read for ever, and rows that no part holds would be what memory held before."""
    whole = (root / "tests/data/depth/float_plain.exr").read_bytes()
    back, twice, far = bytearray(whole), bytearray(whole), bytearray(whole)
    struct.pack_into("<i", back, whole.index(b"chlist\0") + 7, -len(b"channels\0chlist\0") - 4)
    location = _header(whole)[1]
    twice[location : location + 8] = whole[location + 8 : location + 16]
    struct.pack_into("<Q", far, location, 2**64 - 1)
    for data in (back, twice, far):
        (tmp_path / "damaged.exr").write_bytes(data)
        with pytest.raises(BrokenImage, match="truncated or damaged"):
            read_numbers(tmp_path / "damaged.exr")


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<u2", "<i4", "<f2"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (5, 7, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_read_as_numpy_reads_it(tmp_path, dtype, shape, order):
    values = np.asarray(np.arange(35).reshape(shape), dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(read_numbers(tmp_path / "a.npy"), values.reshape(5, 7))
    assert depth_size(tmp_path / "a.npy") == (5, 7)


def npy(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, dict(descr="<f4", fortran_order=False, shape=shape))
    return buffer.getvalue() + bytes(400)


def png(shape):
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 16, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("made", [npy, png])
def test_a_gigantic_size_is_refused_before_memory_is_taken(tmp_path, made):
    (tmp_path / "a.png").write_bytes(made((40_000, 50_000)))
    tracemalloc.start()
    with pytest.raises(BrokenImage, match="has 50000x40000 pixels, and 268,435,456 are read at most"):
        read_numbers(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(10, 11), (-5, -5), (2**40, 0)])
def test_an_npy_of_another_size_than_it_states_is_refused_or_empty(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(shape))
    if 0 in shape:
        assert read_numbers(tmp_path / "a.npy").size == 0
        return
    with pytest.raises(BrokenImage, match="truncated or damaged"):
        read_numbers(tmp_path / "a.npy")


def test_what_a_chunk_of_an_exr_inflates_to_is_bounded(root, tmp_path):
    data = (root / "tests/data/depth/noise_zip.exr").read_bytes()
    assert len(_unzip(zlib.compress(bytes(10**8)), 5000)) == 5000
    rows = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    huge = data[:rows] + struct.pack("<4i", 0, 0, 49_999, 39_999) + data[rows + 16 :]
    (tmp_path / "a.exr").write_bytes(huge)
    with pytest.raises(BrokenImage, match="has 50000x40000 pixels, and 268,435,456 are read at most"):
        read_numbers(tmp_path / "a.exr")
