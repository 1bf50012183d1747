"""Whatever is in a label file, reading a folder ends with data or with one sentence."""

import json
from pathlib import Path

import numpy as np
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

from densevit.datasets.formats import read_folder
from densevit.errors import UserError

VALUES = (
    b"",
    b"\0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b'"',
    b"[",
    b"{",
    b"<",
    b"&x;",
    b"\xff\xfe",
    b"\\",
    b"../",
    b": ",
    b"0",
)
"""What stands in the location of some bytes."""


def yolo(root: Path) -> list[Path]:
    write_yolo(root, {"train/a": "0 0.5 0.5 0.2 0.2\n1 0 0 0.5 0 0.5 1\n", "val/b": "0 0.5 0.5 0.2 0.2\n"}, path=".")
    return [root / "data.yaml", root / "labels/train/a.txt"]


def voc(root: Path) -> list[Path]:
    write_voc(root, {name: voc_xml(("cat", 1, 1, 9, 9)) for name in "ab"}, {"train": ["a"], "val": ["b"]})
    return [root / "Annotations/a.xml", root / "ImageSets/Main/train.txt"]


def labelme(root: Path) -> list[Path]:
    for name in "ab":
        write_image(root / f"{name}.jpg", seed=ord(name))
        shapes = [("cat", "polygon", [[1, 1], [5, 1], [5, 5]], 1), ("dog", "circle", [[9, 9], [12, 9]])]
        write_text(root / f"{name}.json", labelme_json(*shapes, image=f"{name}.jpg"))
    return [root / "a.json"]


def coco(root: Path) -> list[Path]:
    content = coco_content(["a.jpg", "b.jpg"])
    content["annotations"][0]["segmentation"] = [[5, 5, 15, 5, 15, 13]]
    content["annotations"][1]["segmentation"] = dict(size=[20, 40], counts=[100, 50, 650])
    return [write_coco(root / "labels.json", content, root)]


def semantic(root: Path) -> list[Path]:
    for name in "ab":
        write_image(root / f"images/{name}.jpg", seed=ord(name))
        write_image(root / f"masks/{name}.png")
    return [write_text(root / "classes.json", json.dumps(dict(classes=["a", "b"], palette=[[1, 2, 3], [4, 5, 6]])))]


@pytest.mark.parametrize("make", [yolo, voc, labelme, coco, semantic])
def test_damaged_files_give_data_or_a_sentence(tmp_path, make):
    rng, read = np.random.default_rng(0), 0
    for file in make(tmp_path):
        whole = file.read_bytes()
        for _ in range(150):
            start = int(rng.integers(0, len(whole)))
            end = start + int(rng.integers(0, 12))
            file.write_bytes(whole[:start] + VALUES[rng.integers(len(VALUES))] + whole[end:])
            try:
                read_folder(tmp_path, make.__name__).summary()
                read += 1
            except UserError as error:
                assert "\n" not in str(error)
        file.write_bytes(whole)
    assert read > 0 or make is semantic
