"""Class maps of every kind of PNG become the same classes, and each fault has its sentence."""

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_semantic import CLASSES, COLORS, tiny_map

from densevit.datasets.io.image import BrokenImage
from densevit.datasets.io.label_map import ClassMapReader, map_size, read_values
from densevit.datasets.semantic_classes import SemanticClasses, semantic_classes


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "c.txt").write_text("".join(f"{n} {r} {g} {b}\n" for n, (r, g, b) in zip(CLASSES, COLORS, strict=True)))
    return semantic_classes("c.txt", str(tmp_path), label_map={(0, 0, 0): 255})


def in_colors(ground_truth: np.ndarray) -> np.ndarray:
    return np.array([*COLORS, (0, 0, 0)], np.uint8)[np.minimum(ground_truth, 3)]


def write(path, ground_truth: np.ndarray, form: str) -> None:
    if form == "gray":
        cv2.imwrite(str(path), ground_truth)
    elif form == "gray of 16 bits":
        cv2.imwrite(str(path), ground_truth.astype(np.uint16))
    elif form == "palette":
        image = Image.fromarray(ground_truth, mode="P")
        image.putpalette([value for color in COLORS for value in color[::-1]] + [0] * (256 - 3) * 3)
        image.save(path)
    elif form == "palette of 2 bits":
        image = Image.fromarray(np.minimum(ground_truth, 3), mode="P")
        image.putpalette([0] * 12)
        image.save(path, bits=2)
    elif form == "colors":
        Image.fromarray(in_colors(ground_truth)).save(path)
    elif form == "colors with alpha":
        image = Image.fromarray(in_colors(ground_truth)).convert("RGBA")
        image.putalpha(100)
        image.save(path)
    elif form == "gray with alpha":
        Image.merge("LA", [Image.fromarray(ground_truth), Image.fromarray(np.full_like(ground_truth, 7))]).save(path)


@pytest.mark.parametrize(
    "form", ["gray", "gray of 16 bits", "palette", "colors", "colors with alpha", "gray with alpha"]
)
def test_every_kind_of_png_gives_the_same_classes(tmp_path, classes, form):
    ground_truth = tiny_map()
    write(tmp_path / "m.png", ground_truth, form)
    found = ClassMapReader(classes)(tmp_path / "m.png")
    assert found.dtype == np.uint8 and np.array_equal(found, ground_truth)
    assert map_size(tmp_path / "m.png") == ground_truth.shape


def test_few_bits_are_not_stretched(tmp_path):
    """Gray of 1, 2 and 4 bits: decoders give 0 and 255, or 0, 85, 170 and 255, where the file says 0 to 3."""
    values = np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8)
    write(tmp_path / "p.png", values, "palette of 2 bits")
    assert np.array_equal(read_values(tmp_path / "p.png"), values)
    for bits in (1, 2, 4):
        held = values % (1 << bits)
        _write_gray(tmp_path / "g.png", held, bits)
        assert np.array_equal(read_values(tmp_path / "g.png"), held), bits


def _write_gray(path, values: np.ndarray, bits: int) -> None:
    """A gray PNG of so many bits, made by hand."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    planes = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_sixteen_bits_reach_beyond_a_byte(tmp_path):
    rule = SemanticClasses("x", ("a", "b"), None, {7: 0, 3000: 1, 255: 255}, {})
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[7, 3000, 255]], np.uint16))
    assert ClassMapReader(rule)(tmp_path / "m.png").tolist() == [[0, 1, 255]]
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[7, 3001, 255]], np.uint16))
    with pytest.raises(BrokenImage, match="holds the value 3001"):
        ClassMapReader(rule)(tmp_path / "m.png")


def test_numbers_stored_three_times_are_numbers_where_there_are_no_colors(tmp_path):
    ground_truth = tiny_map()
    cv2.imwrite(str(tmp_path / "m.png"), ground_truth[..., None].repeat(3, axis=2))
    assert np.array_equal(ClassMapReader(semantic_classes(CLASSES))(tmp_path / "m.png"), ground_truth)


def test_an_unknown_value_is_named_with_the_file_and_the_way_on(tmp_path):
    ground_truth = tiny_map()
    ground_truth[30, 5:9] = 213
    cv2.imwrite(str(tmp_path / "0007.png"), ground_truth)
    with pytest.raises(BrokenImage) as error:
        ClassMapReader(semantic_classes("camvid"))(tmp_path / "0007.png")
    sentence = str(error.value)
    assert f"Class map {tmp_path / '0007.png'} holds the value 213 (4 pixels" in sentence
    assert "the classes of camvid end at 11" in sentence and "label_map={213: 255}" in sentence
    mapped = semantic_classes("camvid", label_map={213: "car"})
    assert (ClassMapReader(mapped)(tmp_path / "0007.png")[30, 5:9] == 8).all()


def test_a_zero_that_no_class_has_points_to_the_shifted_form(tmp_path):
    rule = SemanticClasses("x", ("a",), None, {1: 0, 255: 255}, {})
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[0, 1]], np.uint8))
    with pytest.raises(BrokenImage, match=r"have no 0: .*reduce_zero_label=True"):
        ClassMapReader(rule)(tmp_path / "m.png")


def test_faults_in_colors_are_named(tmp_path, classes):
    picture = in_colors(tiny_map())
    picture[3, 3] = (1, 2, 3)
    Image.fromarray(picture).save(tmp_path / "m.png")
    with pytest.raises(BrokenImage, match=r"holds the color \(1, 2, 3\) \(1 pixels\)"):
        ClassMapReader(classes)(tmp_path / "m.png")
    with pytest.raises(BrokenImage, match="says nothing of colors"):
        ClassMapReader(semantic_classes(CLASSES))(tmp_path / "m.png")
    with pytest.raises(BrokenImage, match=r"gives \(140, 140, 140\) to two classes"):
        ClassMapReader(semantic_classes("ade20k"))(tmp_path / "m.png")


def test_files_that_are_no_class_maps_are_named(tmp_path):
    whole = cv2.imencode(".png", tiny_map())[1].tobytes()
    contents = {
        "empty": (b"", "is empty"),
        "torn": (whole[: len(whole) // 2], "truncated or damaged"),
        "head": (whole[:30], "truncated or damaged"),
        "jpeg": (cv2.imencode(".jpg", tiny_map())[1].tobytes(), "is no PNG: store class maps as PNG"),
        "deep": (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes(), "in colors of 16 bits"),
    }
    reader = ClassMapReader(semantic_classes(CLASSES))
    for name, (content, sentence) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BrokenImage, match=sentence):
            reader(tmp_path / name)
    with pytest.raises(BrokenImage, match=r"Class map .*nowhere does not exist"):
        reader(tmp_path / "nowhere")
    assert map_size(tmp_path / "jpeg") is None and map_size(tmp_path / "nowhere") is None
