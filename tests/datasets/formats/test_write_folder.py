"""One set of scenes in every format: what is written is read back, and gives the samples of the original."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from densevit.datasets.formats import WRITERS, dataset_configs, read_folder, write_folder
from densevit.datasets.formats.rings import joined_ring, mask_rings
from densevit.datasets.scenes import writer
from densevit.engine.config import read_config
from densevit.errors import ConfigError, DataError
from densevit.ops.masks import decode_rle, outlines, rasterize
from densevit.registry import DATASETS


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    writer.write_tree(folder, writer.Settings(12, 4, 7, (96, 128), ("boxes", "masks", "semantic", "depth")))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEVIT_CACHE", str(tmp_path / "cache"))


def by_file(data, split):
    """File name -> (class, box, area, mask) of each object, in order."""
    names = {category["id"]: category["name"] for category in data.categories}
    found = {}
    for image in data.splits[split].images:
        size = image["height"], image["width"]
        found[Path(image["file_name"]).name] = [
            (names[a["category_id"]], a["bbox"], a["area"], mask_of(a, size))
            for a in data.splits[split].annotations
            if a["image_id"] == image["id"]
        ]
    return found


def mask_of(annotation, size):
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return decode_rle(segmentation).astype(bool)
    return rasterize([[np.array(part).reshape(-1, 2) for part in segmentation]], size)[0]


@pytest.mark.parametrize("label_format", WRITERS)
def test_scenes_come_back_from_every_format(scenes, tmp_path, label_format):
    given = read_folder(scenes)
    write_folder(given, tmp_path / label_format, label_format)
    found = read_folder(tmp_path / label_format)
    assert found.classes == given.classes and list(found.splits) == ["train", "val"] and not found.left_out
    for split in given.splits:
        expected, objects = by_file(given, split), by_file(found, split)
        assert expected.keys() == objects.keys()
        for name in expected:
            assert [o[:2] for o in objects[name]] == [o[:2] for o in expected[name]]
            for (_, _, area, mask), (_, _, other_area, other) in zip(expected[name], objects[name], strict=True):
                if label_format == "voc":
                    assert other is None
                else:
                    assert np.array_equal(mask, other) and other_area == pytest.approx(area, abs=0.05)


@pytest.mark.parametrize("label_format", WRITERS)
@pytest.mark.parametrize("recipe", ["pvt_retinanet_scenes", "pvt_maskrcnn_scenes"])
def test_a_recipe_gets_the_same_samples_from_every_format(scenes, tmp_path, label_format, recipe):
    if label_format == "voc" and "maskrcnn" in recipe:
        return
    config = read_config(recipe)
    write_folder(read_folder(scenes), tmp_path / label_format, label_format)
    samples = []
    for folder in (scenes, tmp_path / label_format):
        changes = dataset_configs(read_folder(folder), config)
        assert changes["val_evaluator"]["metric"] in ("bbox", ["bbox", "segm"])
        with DefaultScope.overwrite_default_scope("densevit"):
            train, val = (DATASETS.build(changes[f"{name}_dataloader"]["dataset"]) for name in ("train", "val"))
        items = {Path(train.get_data_info(i)["img_path"]).name: train[(i, 0)] for i in range(len(train))}
        items.update({Path(val.get_data_info(i)["img_path"]).name: val[i] for i in range(len(val))})
        assert len(items) == 16 and len(train.metainfo["classes"]) == 12
        samples.append(items)
    for name, expected in samples[0].items():
        found = samples[1][name]
        assert np.array_equal(expected["inputs"], found["inputs"])
        ours, theirs = (sample["data_samples"].gt_instances for sample in (expected, found))
        assert np.allclose(ours.bboxes, theirs.bboxes, atol=1e-4) and np.array_equal(ours.labels, theirs.labels)
        if "masks" in ours:
            unlike = [(one != other).sum() / one.sum() for one, other in zip(ours.masks, theirs.masks, strict=True)]
            # a mask with a hole is an RLE in COCO format and a polygon here, which a resize rounds in another way
            assert max(unlike) < 0.3 and sum(share > 0 for share in unlike) <= 1


def test_nothing_is_written_over(scenes, tmp_path):
    data = read_folder(scenes)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already and no empty folder"):
        write_folder(data, tmp_path / "there", "yolo")
    with pytest.raises(ConfigError, match=r"Nothing is written as 'yollo' \(nearest: 'yolo'\)"):
        write_folder(data, tmp_path / "new", "yollo")
    assert os.listdir(tmp_path / "there") == ["a.txt"] and not (tmp_path / "new").exists()


def test_images_of_one_name_in_two_folders_stay_two(scenes, tmp_path):
    data = read_folder(scenes)
    train, val = data.splits.values()
    data.splits["val"].images[0]["file_name"] = train.images[0]["file_name"]
    for label_format in WRITERS:
        write_folder(data, tmp_path / label_format, label_format)
        again = read_folder(tmp_path / label_format)
        assert sum(len(part.images) for part in again.splits.values()) == 16
        assert sum(len(part.annotations) for part in again.splits.values()) == len(train.annotations) + len(
            val.annotations
        )


def test_crowds_are_left_out_of_yolo_and_difficult_in_voc(scenes, tmp_path):
    data = read_folder(scenes)
    part = data.splits["train"]
    part.annotations = [dict(annotation, iscrowd=int(not index)) for index, annotation in enumerate(part.annotations)]
    assert write_folder(data, tmp_path / "yolo", "yolo") == ["1 crowds are left out, which yolo does not know"]
    write_folder(data, tmp_path / "voc", "voc")
    assert sum(a["iscrowd"] for a in read_folder(tmp_path / "voc").splits["train"].annotations) == 1


def test_a_mask_of_parts_and_holes_is_one_ring_of_the_same_pixels():
    bitmap = np.zeros((40, 60), bool)
    bitmap[3:20, 4:30] = bitmap[25:35, 40:55] = True
    bitmap[6:10, 8:20] = False
    ring = joined_ring([part.astype(float) for part in outlines(bitmap)[0]])
    assert np.array_equal(rasterize([[ring]], bitmap.shape)[0], bitmap)
    assert mask_rings(dict(segmentation=[[1, 2, 3, 4]])) == []


@pytest.mark.parametrize("label_format", WRITERS)
def test_make_scenes_writes_each_format(tmp_path, label_format, monkeypatch, root):
    monkeypatch.syspath_prepend(str(root / "data"))
    import make_scenes

    command = ["make_scenes", "--out", str(tmp_path / "out"), "--images", "3", "--val", "2", "--size", "64"]
    monkeypatch.setattr(sys, "argv", [*command, "--as", label_format, "--workers", "1"])
    make_scenes.main()
    assert os.listdir(tmp_path) == ["out"]
    data = read_folder(tmp_path / "out")
    assert [len(part.images) for part in data.splits.values()] == [3, 2] and len(data.classes) == 12
    if label_format != "coco":
        with pytest.raises(SystemExit):
            make_scenes.main()


def test_a_disk_that_refuses_leaves_nothing_behind(scenes, tmp_path, monkeypatch):
    import shutil

    data, copies = read_folder(scenes), []

    def copy(source, target):
        copies.append(target)
        if len(copies) > 3:
            raise OSError(28, "No space left on device")
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(OSError, match="No space left"):
        write_folder(data, tmp_path / "out", "yolo")
    assert os.listdir(tmp_path) == []
