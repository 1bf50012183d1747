"""Folders in YOLO format: what is read as what, and what is refused."""

import numpy as np
import pytest
from label_folders import objects_of, write_image, write_text, write_yolo

from densevit.datasets.formats import read_folder
from densevit.datasets.io.image import read_image
from densevit.errors import DataError

BOX = "0 0.5 0.5 0.25 0.5\n"
"""[15, 5, 10, 10] in an image of 40 x 20."""


def test_boxes_and_polygons_come_in_pixels(tmp_path):
    labels = {"train/a": BOX + "1 0 0 0.5 0 0.5 1\n", "val/b": "", "val/c": "1 0.25 0.5 0.5 1\n"}
    data = read_folder(write_yolo(tmp_path, labels))
    assert data.format == "yolo" and data.classes == ("cat", "dog")
    assert objects_of(data, "train") == [("a.jpg", "cat", [15, 5, 10, 10]), ("a.jpg", "dog", [0, 0, 20, 20])]
    assert objects_of(data, "val") == [("c.jpg", "dog", [0, 0, 20, 20])]
    polygon = data.splits["train"].annotations[1]
    assert polygon["segmentation"] == [[0, 0, 20, 0, 20, 20]] and polygon["area"] == 200
    assert len(data.splits["val"].images) == 2


@pytest.mark.parametrize(
    "names, expected",
    [
        ("{0: cat, 1: dog}", ("cat", "dog")),
        ("[no, 'Straßen schild', 犬]", ("no", "Straßen schild", "犬")),
        ("{'0': a b, '1': 'yes'}", ("a b", "yes")),
    ],
)
def test_names_may_be_a_list_or_numbered_with_spaces_and_any_letters(tmp_path, names, expected):
    assert read_folder(write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX}, names)).classes == expected


@pytest.mark.parametrize(
    "keys",
    [
        dict(path="."),
        dict(path="./"),
        dict(path="../set"),
        dict(path="/home/someone/set"),  # of another computer
        dict(path=r"C:\Users\Some One\data\set"),
        dict(train=r"C:\data\set\images\train", val=r"images\val"),
        dict(train="../images/train", val="../images/val"),  # as Roboflow writes it
        dict(train="[images/train]", val="[images/val]"),
    ],
)
def test_paths_of_other_computers_are_found_below_the_folder(tmp_path, keys):
    data = read_folder(write_yolo(tmp_path / "set", {"train/a": BOX, "val/b": BOX}, **keys))
    assert [len(data.splits[name].images) for name in ("train", "val")] == [1, 1]
    assert not data.notes


def test_an_absolute_path_elsewhere_is_used_and_said(tmp_path):
    write_yolo(tmp_path / "there", {"train/a": BOX, "val/b": BOX})
    write_text(tmp_path / "here/data.yaml", f"path: {tmp_path}/there\ntrain: images/train\nval: images/val\nnames: [a]")
    data = read_folder(tmp_path / "here/data.yaml")
    assert objects_of(data, "train") == [("a.jpg", "a", [15, 5, 10, 10])]
    assert sum("lies outside the folder" in note for note in data.notes) == 2


def test_lists_of_images_are_splits(tmp_path):
    write_yolo(tmp_path, {"x/a": BOX, "x/b": BOX, "x/c": BOX}, x=None, train="train.txt", val="val.txt")
    write_text(tmp_path / "train.txt", "./images/x/a.jpg\n/elsewhere/set/images/x/b.jpg\n")
    write_text(tmp_path / "val.txt", "images\\x\\c.jpg\nimages/x/missing.jpg\n")
    data = read_folder(tmp_path)
    assert [name for name, *_ in objects_of(data, "train") + objects_of(data, "val")] == ["a.jpg", "b.jpg", "c.jpg"]
    assert data.left_out == {"lines of val.txt without an image": ["images/x/missing.jpg"]}


def test_without_data_yaml_folders_and_a_class_file_are_enough(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / split / "images/A.JPG")
        write_text(tmp_path / split / "labels/A.txt", BOX)
    write_text(tmp_path / "classes.txt", "cat\ndog\n")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog") and objects_of(data, "val") == [("A.JPG", "cat", [15, 5, 10, 10])]


def test_labels_beside_the_images_without_names(tmp_path):
    for name in "abcde":
        write_image(tmp_path / f"{name}.png", seed=ord(name))
        write_text(tmp_path / f"{name}.txt", BOX.replace("0", "1", 1))
    data = read_folder(tmp_path)
    assert data.classes == ("class 0", "class 1")
    assert len(data.splits["train"].images) == 4 and len(data.splits["val"].images) == 1


def test_images_without_labels_and_labels_without_images_are_counted_and_named(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "train/b": None, "val/c": BOX})
    write_text(tmp_path / "labels/train/lost.txt", BOX)
    data = read_folder(tmp_path)
    assert data.left_out == {"labels without an image": ["labels/train/lost.txt"]}
    assert list(data.remarks.values()) == [["images/train/b.jpg"]]
    assert "left out: 1 labels without an image: labels/train/lost.txt" in data.summary()
    assert "1 images without a label file, used as images without objects: images/train/b.jpg" in data.summary()


@pytest.mark.parametrize(
    "line, message",
    [
        ("2 0.5 0.5 0.1 0.1", "line 1 has class 2, but .*data.yaml names 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "begins with -1 instead of a class number"),
        ("cat 0.5 0.5 0.1 0.1", "a line of YOLO has numbers alone"),
        ("0 20 10 10 10", "coordinate 20: YOLO's are shares of the image's sides, 0 to 1"),
        ("0 0.5 0.5 nan 0.1", "coordinate nan"),
        ("0 0.5 0.5 0.1", "has 4 numbers instead of 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 6 numbers instead of 5"),
        ("0,5 0,5 0,5 0,1 0,1", "numbers alone"),
        (b"\xff\xfe\x00\x01 \x00\x00", "numbers alone"),
        (b"\x93\xfa\x96{ 0.5 0.5 0.1 0.1", "numbers alone"),
    ],
)
def test_wrong_lines_are_refused_by_file_and_line(tmp_path, line, message):
    with pytest.raises(DataError, match=message) as error:
        read_folder(write_yolo(tmp_path, {"train/a": line, "val/b": BOX}))
    assert "\n" not in str(error.value) and "labels/train/a.txt line 1" in str(error.value)


def test_all_mistakes_are_there_for_a_check(tmp_path):
    write_yolo(tmp_path, {"train/a": "7 0.5 0.5 1 1\n0 5 5 5 5\n" + BOX, "val/b": BOX})
    with pytest.raises(
        DataError, match=r"names 2 classes, 0 to 1: correct the labels .*\(the first of 2 mistakes\)\.$"
    ):
        read_folder(tmp_path)
    data = read_folder(tmp_path, strict=False)
    assert len(data.problems) == 2 and len(data.splits["train"].annotations) == 1
    assert all(f"  problem: {problem}" in data.summary().splitlines() for problem in data.problems)


def test_objects_without_area_and_repeated_ones_are_left_out(tmp_path):
    lines = BOX + BOX + "0 0.5 0.5 0 0.5\n1 0.1 0.1 0.2 0.1 0.3 0.1\n"
    data = read_folder(write_yolo(tmp_path, {"train/a": lines, "val/b": BOX}))
    assert len(data.splits["train"].annotations) == 1
    where = "labels/train/a.txt line"
    assert data.left_out == {
        "objects that stand twice": [f"{where} 2"],
        "objects without an area": [f"{where} 3", f"{where} 4"],
    }


def test_oriented_boxes_are_refused_and_upright_rectangles_are_polygons(tmp_path):
    upright = "0 0.1 0.1 0.4 0.1 0.4 0.6 0.1 0.6\n"
    rotated = "0 0.5 0.1 0.6 0.3 0.5 0.5 0.4 0.3\n"  # (20, 2) (24, 6) (20, 10) (16, 6)
    read_folder(write_yolo(tmp_path / "upright", {"train/a": upright, "val/b": upright}))
    read_folder(write_yolo(tmp_path / "mixed", {"train/a": rotated + "0 0 0 1 0 1 1\n", "val/b": upright}))
    with pytest.raises(DataError, match=r"All 2 polygons .* oriented boxes"):
        read_folder(write_yolo(tmp_path / "obb", {"train/a": rotated, "val/b": upright}))


def test_of_key_points_the_boxes_are_read(tmp_path):
    line = "0 0.5 0.5 0.25 0.5 0.5 0.5 2 0.1 0.1 2\n"
    data = read_folder(write_yolo(tmp_path, {"train/a": line, "val/b": line}, kpt_shape="[2, 3]"))
    assert objects_of(data, "train") == [("a.jpg", "cat", [15, 5, 10, 10])]


def test_labels_of_a_turned_photograph_are_in_the_displayed_frame(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    write_image(tmp_path / "images/train/a.jpg", 20, 40, turned=True)
    image = read_folder(tmp_path).splits["train"].images[0]
    assert (image["width"], image["height"]) == (20, 40)
    assert read_image(image["file_name"], (40, 20)).shape == (40, 20, 3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: images/train\nval: images/val\nnames: [a, [b]", "is no YAML"),
        ("train: images/train\nval: images/val\nnames: 3", "'names' of"),
        ("train: images/train\nval: images/val\nnc: 3\nnames: [a, b]", "nc: 3, but 2 names"),
        ("train: images/missing\nval: images/val\nnames: [a, b]", "names 'images/missing', but there is no"),
        ("train: images/train\nval: images/val\nnames: [a, a]", "Several classes of .* are called 'a'"),
    ],
)
def test_a_faulty_data_yaml_is_refused_in_a_sentence(tmp_path, text, message):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    write_text(tmp_path / "data.yaml", text)
    with pytest.raises(DataError, match=message) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "train/b": BOX, "val/c": BOX})
    write_text(tmp_path / "images/train/b.jpg", b"")
    data = read_folder(tmp_path)
    assert data.left_out["images that cannot be read"] == ["images/train/b.jpg"]


def test_reading_is_fast(tmp_path):
    import time

    write_yolo(tmp_path, {"train/a": BOX * 1, "val/b": BOX})
    row = " ".join(f"{v:.4f}" for v in np.linspace(0.1, 0.9, 40))
    write_text(tmp_path / "labels/train/a.txt", "".join(f"1 {row} 0.{i:05d} 0.5\n" for i in range(5000)))
    start = time.perf_counter()
    assert len(read_folder(tmp_path).splits["train"].annotations) == 5000
    assert time.perf_counter() - start < 5


def test_cvats_export(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"obj_train_data/{name}.jpg", seed=ord(name))
        write_text(tmp_path / f"obj_train_data/{name}.txt", BOX)
    write_text(tmp_path / "obj.names", "cat\ndog\n")
    write_text(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\n")
    write_text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    data = read_folder(tmp_path)
    assert data.classes == ("cat", "dog") and [len(part.images) for part in data.splits.values()] == [1, 1]


def test_roboflows_export_of_train_alone(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"train/images/{name}.jpg", seed=ord(name))
        write_text(tmp_path / f"train/labels/{name}.txt", BOX)
    splits = "train: ../train/images\nval: ../train/images\ntest: ../test/images\n"
    write_text(tmp_path / "data.yaml", f"{splits}nc: 1\nnames: ['cat']\nroboflow:\n  license: MIT\n")
    data = read_folder(tmp_path)
    assert list(data.splits) == ["train", "val"]
    assert data.left_out == {"splits whose images are not there": ["test (../test/images)"]}
    assert any("val is identical to train" in note for note in data.notes)
