"""Which format a folder is taken for, which images are held out, and what is said of it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from label_folders import (
    coco_content,
    labelme_json,
    voc_xml,
    write_coco,
    write_image,
    write_text,
    write_voc,
    write_yolo,
)

from densevit.datasets.formats import FORMATS, OBJECTS, read_folder, recognize_folder, write_split
from densevit.datasets.formats.file_tree import FileTree
from densevit.errors import ConfigError, DataError

BOX = "0 0.5 0.5 0.25 0.5\n"


def refused(folder, message, kind=DataError, **settings):
    with pytest.raises(kind, match=message) as error:
        read_folder(folder, **settings)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def flat_yolo(root, count=10):
    for index in range(count):
        write_image(root / f"images/{index}.jpg", seed=index)
        write_text(root / f"labels/{index}.txt", BOX)
    return root


def listing(root):
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))


def test_a_folder_of_nothing(tmp_path):
    refused(
        tmp_path,
        "is in no known format .there are 0 images, and no labels that are known.: lay it out as docs/data_formats.md",
    )
    write_image(tmp_path / "a.jpg")
    refused(tmp_path, "there are 1 images, and no labels")
    refused(tmp_path / "missing", "does not exist: give the folder")
    refused(tmp_path / "a.jpg", "is a file: give the folder")


def test_a_folder_of_two_formats_asks_for_one(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    for split in ("train", "val"):
        content = coco_content([f"{'a' if split == 'train' else 'b'}.jpg"])
        write_coco(tmp_path / f"annotations/instances_{split}.json", content)
    refused(
        tmp_path,
        r"can be read in 2 ways: choose --format coco \(annotations/instances_train.json, .*\) or --format yolo "
        r"\(data.yaml\)",
    )
    assert read_folder(tmp_path, "yolo").format == "yolo"
    data = read_folder(tmp_path, "coco")
    assert data.format == "coco" and data.splits["val"].image_dir == str(tmp_path / "images/val")
    refused(tmp_path, r"There is no format 'yoloo' \(nearest: 'yolo'\)", ConfigError, format="yoloo")
    refused(tmp_path, "has labels for objects, and depth needs others", ConfigError, format="yolo", task="depth")


def test_each_format_is_recognized_as_itself_alone(tmp_path):
    write_yolo(tmp_path / "yolo", {"train/a": BOX, "val/b": BOX})
    write_voc(tmp_path / "voc", {"a": voc_xml(), "b": voc_xml()})
    write_coco(tmp_path / "coco/labels.json", coco_content(["a.jpg", "b.jpg"]), tmp_path / "coco")
    write_image(tmp_path / "labelme/a.jpg")
    write_text(tmp_path / "labelme/a.json", labelme_json(("cat", "polygon", [[1, 1], [5, 1], [5, 5]])))
    for kind in ("semantic", "depth"):
        write_image(tmp_path / kind / "images/a.jpg")
        write_image(tmp_path / kind / ("depth" if kind == "depth" else "masks") / "a.png")
    for name in FORMATS:
        assert list(recognize_folder(FileTree(tmp_path / name))) == [name]


def test_the_same_images_are_held_out_each_time_and_nothing_is_written(tmp_path):
    flat_yolo(tmp_path / "a")
    before = listing(tmp_path)

    def held_out(folder, **settings):
        return [os.path.basename(i["file_name"]) for i in read_folder(folder, **settings).splits["val"].images]

    first = held_out(tmp_path / "a")
    assert listing(tmp_path) == before
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert first == held_out(tmp_path / "a") == held_out(tmp_path / "b") and len(first) == 2
    assert first != held_out(tmp_path / "a", seed=3)
    assert len(held_out(tmp_path / "a", val_fraction=0.5)) == 5
    assert len(held_out(tmp_path / "a", val_fraction=0.01)) == 1
    assert len(held_out(tmp_path / "a", val_fraction=1.0)) == 9


def test_a_split_is_written_when_asked_for_and_read_from_then_on(tmp_path):
    data = read_folder(flat_yolo(tmp_path), seed=5)
    path = write_split(data)
    assert json.loads(Path(path).read_text()).keys() == {"train", "val"}
    again = read_folder(tmp_path, seed=0)
    for name in ("train", "val"):
        files = [{image["file_name"] for image in d.splits[name].images} for d in (data, again)]
        assert files[0] == files[1]
    write_image(tmp_path / "images/new.jpg", seed=77)
    assert read_folder(tmp_path).left_out == {"images that densevit_split.json does not name": ["images/new.jpg"]}
    with pytest.raises(DataError, match="is there already"):
        write_split(data)
    write_text(tmp_path / "densevit_split.json", "{}")
    refused(tmp_path, "has no lists train and val")


def test_one_image_alone_cannot_be_split(tmp_path):
    refused(flat_yolo(tmp_path, 1), "is the only image")


def test_test_is_not_taken_for_val(tmp_path):
    write_yolo(tmp_path, {f"{split}/{i}{split}": BOX for split in ("train", "test") for i in range(5)})
    data = read_folder(tmp_path)
    assert [(name, len(part.images)) for name, part in data.splits.items()] == [("train", 4), ("val", 1), ("test", 5)]


def test_images_outside_every_split_are_left_out(tmp_path):
    for name in ("train/a", "val/b", "c"):
        write_image(tmp_path / f"images/{name}.jpg", seed=ord(name[-1]))
        write_text(tmp_path / f"labels/{name}.txt", BOX)
    assert read_folder(tmp_path).left_out == {"images in no split": ["images/c.jpg"]}


def test_images_of_two_splits_are_warned_of(tmp_path):
    write_yolo(tmp_path / "leak", {"train/a": BOX, "train/b": BOX, "val/b": BOX, "val/c": BOX})
    note = read_folder(tmp_path / "leak").notes[-1]
    assert note == "warning: 1 file names are in train and in val (b.jpg), with other contents"
    shutil.copy(tmp_path / "leak/images/train/b.jpg", tmp_path / "leak/images/val/b.jpg")
    data = read_folder(tmp_path / "leak")
    assert data.notes[-1].startswith("warning: 1 images are in train and in val (b.jpg)")
    assert data.notes[-1] in data.summary()


def test_val_identical_to_train_is_warned_of(tmp_path):
    write_yolo(tmp_path / "named", {"train/a": BOX, "train/b": BOX}, val="images/train")
    os.makedirs(tmp_path / "linked")
    for kind in ("images", "labels"):
        shutil.copytree(tmp_path / "named" / kind, tmp_path / "linked" / kind)
        os.symlink("train", tmp_path / "linked" / kind / "val")
    for name in ("named", "linked"):
        notes = read_folder(tmp_path / name).notes
        assert any("warning: val is identical to train (2 images)" in note for note in notes), notes


def test_links_in_a_circle_end(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    os.symlink(tmp_path, tmp_path / "images/train/again")
    os.symlink("nowhere", tmp_path / "images/train/broken.jpg")
    assert [len(part.images) for part in read_folder(tmp_path).splits.values()] == [1, 1]


def test_hidden_files_and_those_of_macos_are_not_looked_at(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    for name in ("images/train/._a.jpg", "__MACOSX/images/train/x.jpg", ".cache/y.jpg"):
        write_text(tmp_path / name, b"\0\5\x16\7")
    assert not read_folder(tmp_path).left_out


def test_a_label_file_of_another_kind_of_file_is_refused_without_reading_it(tmp_path, monkeypatch):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX})
    with open(tmp_path / "labels/train/a.txt", "wb") as file:
        file.truncate(1 << 32)
    refused(tmp_path, "has more than 64 MB: it is no label file of one image")


def test_objects_of_no_class_are_no_data(tmp_path):
    refused(write_yolo(tmp_path, {"train/a": "", "val/b": ""}), "No image in .* has an object", task=OBJECTS)
    write_text(tmp_path / "x/labels/lost.txt", BOX)
    write_text(tmp_path / "x/data.yaml", "train: images\nval: images\nnames: [a]\n")
    os.makedirs(tmp_path / "x/images")
    refused(tmp_path / "x", "has no image with labels .1 labels without an image, such as labels/lost.txt.")


def test_the_summary_says_what_was_found(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX + "1 0 0 0.5 0 0.5 1\n", "train/c": "", "val/b": BOX})
    assert read_folder(tmp_path).summary().splitlines() == [
        f"{tmp_path}: yolo, boxes and masks (data.yaml), 2 classes",
        "  train 2 images (1 without objects), 2 objects (1 with masks, 0 ignore regions)",
        "  val   1 images (0 without objects), 1 objects (0 with masks, 0 ignore regions)",
        "  class: objects in train, val",
        "    cat: 1 1",
        "    dog: 1 0",
    ]


def test_the_one_folder_of_an_archive_is_entered(tmp_path):
    write_voc(tmp_path / "VOCdevkit/VOC2012", {name: voc_xml(("cat", 1, 1, 9, 9)) for name in "abc"})
    data = read_folder(tmp_path)
    assert data.folder == str(tmp_path / "VOCdevkit/VOC2012") and len(data.splits["train"].images) == 2
    flat_yolo(tmp_path / "again/train")
    assert read_folder(tmp_path / "again").folder == str(tmp_path / "again")


def test_other_xml_is_no_voc(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    write_text(tmp_path / "annotations.xml", "<?xml version='1.0'?><annotations><image name='a.jpg'/></annotations>")
    refused(tmp_path, "is in no known format")


def test_the_first_folder_that_names_a_split_counts(tmp_path):
    for name in ("train/dev_05/a", "train/test1/b", "val/train/c"):
        write_image(tmp_path / f"images/{name}.jpg", seed=ord(name[-1]))
        write_text(tmp_path / f"labels/{name}.txt", BOX)
    assert [len(part.images) for part in read_folder(tmp_path).splits.values()] == [2, 1]


def test_names_cannot_steer_a_terminal(tmp_path):
    write_yolo(tmp_path, {"train/a": BOX, "val/b": BOX}, '["a\\x1b[31m", b]')
    write_text(tmp_path / "labels/train/\x1b[2J\udcff.txt".encode("utf-8", "surrogateescape").decode("latin-1"), BOX)
    summary = read_folder(tmp_path).summary()
    assert "\x1b" not in summary and "\\x1b[31m" in summary
