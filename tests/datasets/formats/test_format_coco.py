"""Folders in COCO format, of COCO itself and of the programs that write it."""

import json
from pathlib import Path

import pytest
from label_folders import coco_content, objects_of, write_coco, write_image, write_text

from densevit.datasets.formats import read_folder
from densevit.errors import DataError

BOX = [5, 5, 10, 8]


def test_cocos_own_tree_needs_no_copy(tmp_path):
    for split in ("train2017", "val2017"):
        path = tmp_path / f"annotations/instances_{split}.json"
        write_coco(path, coco_content(["1.jpg", "2.jpg"]), tmp_path / split)
    write_text(tmp_path / "annotations/captions_train2017.json", '{"images": [], "annotations": []}')
    write_coco(tmp_path / "annotations/person_keypoints_train2017.json", coco_content(["1.jpg"]))
    data = read_folder(tmp_path)
    assert data.format == "coco" and data.classes == ("cat", "dog")
    assert objects_of(data, "train") == [("1.jpg", "dog", BOX), ("2.jpg", "cat", BOX)]
    part = data.splits["val"]
    assert part.ann_file == str(path) and part.image_dir == str(tmp_path / "val2017")
    assert part.images[0]["file_name"] == str(tmp_path / "val2017/1.jpg")


def test_roboflows_export(tmp_path):
    for split in ("train", "valid", "test"):
        content = coco_content(["a_jpg.rf.1.jpg", "b.jpg"], first_id=0)
        content["categories"] = [dict(id=i, name=n, supercategory="pets") for i, n in enumerate(("pets", "cat", "dog"))]
        content["categories"][0]["supercategory"] = "none"
        write_coco(tmp_path / split / "_annotations.coco.json", content, tmp_path / split)
    data = read_folder(tmp_path)
    assert list(data.splits) == ["train", "val", "test"] and data.classes == ("cat", "dog")
    assert objects_of(data, "test") == [("a_jpg.rf.1.jpg", "cat", BOX), ("b.jpg", "dog", BOX)]
    # an id of 0 is no id for COCO's code
    assert [a["id"] for a in data.splits["train"].annotations] == [1, 2] and not data.splits["train"].ann_file


def test_cvats_export(tmp_path):
    write_coco(tmp_path / "annotations/instances_default.json", coco_content(["a.jpg", "sub/b.jpg"]))
    for name in ("a.jpg", "sub/b.jpg"):
        write_image(tmp_path / "images" / name, seed=len(name))
    data = read_folder(tmp_path)
    assert [len(part.images) for part in data.splits.values()] == [1, 1]
    assert any("no val split is given: 1 of 2 images are val (seed 0)" in note for note in data.notes)


def test_label_studios_export_with_paths_of_windows(tmp_path):
    content = coco_content(["images\\1\\a.jpg", "../../label-studio/data/media/upload/1/b.jpg", "images/1/c.JPG"])
    write_coco(tmp_path / "result.json", content)
    for name in "abc":
        write_image(tmp_path / f"images/1/{name}.jpg", seed=ord(name))
    data = read_folder(tmp_path)
    found = objects_of(data, "train") + objects_of(data, "val")
    assert sorted(name for name, *_ in found) == ["a.jpg", "b.jpg", "c.jpg"]


def test_one_file_beside_its_images_in_utf_16(tmp_path):
    content = coco_content([f"{i}.jpg" for i in range(10)])
    for i in range(10):
        write_image(tmp_path / f"{i}.jpg", seed=i)
    write_text(tmp_path / "labels.json", json.dumps(content).encode("utf-16"))
    assert [len(part.images) for part in read_folder(tmp_path).splits.values()] == [8, 2]


def test_categories_of_other_ids_are_joined_by_name(tmp_path):
    write_coco(tmp_path / "train.json", coco_content(["a.jpg"], ("cat", "dog")), tmp_path / "train")
    write_coco(tmp_path / "val.json", coco_content(["b.jpg"], ("emu", "cat")), tmp_path / "val")
    data = read_folder(tmp_path)
    assert data.categories == [dict(id=1, name="cat"), dict(id=2, name="dog"), dict(id=3, name="emu")]
    assert objects_of(data, "train") == [("a.jpg", "dog", BOX)] and objects_of(data, "val") == [("b.jpg", "cat", BOX)]
    assert data.splits["train"].ann_file and not data.splits["val"].ann_file


def test_what_stands_alone_is_counted_and_named(tmp_path):
    write_coco(tmp_path / "train/labels.json", coco_content(["a.jpg", "b.jpg", "c.jpg"]), tmp_path / "train")
    (tmp_path / "train/b.jpg").rename(tmp_path / "train/z.jpg")
    data = read_folder(tmp_path)
    assert data.left_out == {
        "labels without an image": ["b.jpg of train/labels.json"],
        "images that no annotation file names": ["train/z.jpg"],
    }


def edited(**changes):
    content = coco_content(["a.jpg", "b.jpg"])
    content["annotations"][0].update(changes)
    return content


@pytest.mark.parametrize(
    "content, message",
    [
        (edited(bbox=[1, 2, 3]), "needs a bbox"),
        (edited(bbox=[1, 2, 3, float("nan")]), "NaN or infinity"),
        (edited(category_id=9), "category_id 9"),
        (edited(image_id=9), "belongs to image 9"),
        (dict(images=[], annotations=[], categories=[]), "lists no images"),
        (dict(images={}, annotations=[], categories=[]), "is in no known format"),
    ],
)
def test_faulty_annotations_are_refused_in_a_sentence(tmp_path, content, message):
    write_text(tmp_path / "labels.json", json.dumps(content))
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg", seed=ord(name))
    with pytest.raises(DataError, match=message) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_two_files_of_one_split_are_refused(tmp_path):
    for name in ("train_a", "train_b"):
        write_coco(tmp_path / f"{name}.json", coco_content(["a.jpg"]), tmp_path)
    with pytest.raises(DataError, match=r"two annotation files of the split 'train', train_a\.json and train_b\.json"):
        read_folder(tmp_path)


def test_a_category_of_two_ids_is_refused(tmp_path):
    write_coco(tmp_path / "labels.json", coco_content(["a.jpg", "b.jpg"], ("cat", "cat")), Path(tmp_path))
    with pytest.raises(DataError, match="two categories called 'cat'"):
        read_folder(tmp_path)


def test_other_json_is_not_taken_for_coco(tmp_path):
    write_coco(tmp_path / "labels.json", coco_content(["a.jpg", "b.jpg"]), tmp_path)
    write_text(tmp_path / "counts.json", '{"images": 2, "annotations": 2, "categories": 2}')
    write_text(tmp_path / "panoptic.json", '{"images": [], "categories": [], "annotations": [{"segments_info": []}]}')
    assert read_folder(tmp_path).evidence == "labels.json"
