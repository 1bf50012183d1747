"""What of a recipe's config a folder replaces, and what stays."""

import pytest
from label_folders import write_yolo

from densevit.datasets.formats import DEPTH, OBJECTS, SEMANTIC, dataset_configs, read_folder
from densevit.datasets.formats.recipe import recipe_task
from densevit.engine.config import read_config, shipped_configs
from densevit.errors import ConfigError, DataError

BOX = "0 0.5 0.5 0.25 0.5\n"
POLYGON = "0 0 0 0.5 0 0.5 1\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEVIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return write_yolo(tmp_path / "set", {"train/a": POLYGON, "val/b": POLYGON})


@pytest.mark.parametrize("recipe", shipped_configs())
def test_every_recipe_is_about_one_kind_of_labels_or_refused(folder, recipe):
    config = read_config(recipe)
    if "multitask" in recipe:
        with pytest.raises(ConfigError, match="is about depth and objects and semantic at once"):
            recipe_task(config)
        return
    dense = any(word in recipe for word in ("ade20k", "camvid", "pvt_fpn"))
    task = DEPTH if any(word in recipe for word in ("nyu", "kitti", "dpt_scenes")) else SEMANTIC if dense else OBJECTS
    assert recipe_task(config) == task
    if task == OBJECTS:
        before = config.pretty_text
        changes = dataset_configs(read_folder(folder), config)
        assert config.pretty_text == before
        for name in ("train", "val", "test"):
            theirs, ours = config[f"{name}_dataloader"], changes[f"{name}_dataloader"]
            assert ours["batch_size"] == theirs["batch_size"] and ours["sampler"] == theirs["sampler"]
            dataset = ours["dataset"]
            assert dataset["type"] == "CocoDataset" and dataset["classes"] == ["cat", "dog"]
            assert dataset.get("with_masks", False) == theirs["dataset"].get("with_masks", False)
            assert dataset["pipeline"][-len(theirs["dataset"]["pipeline"]) :] == theirs["dataset"]["pipeline"]


def test_annotations_are_stored_once_by_their_content(tmp_path, folder):
    config = read_config("pvt_retinanet_scenes")
    first = dataset_configs(read_folder(folder), config)
    assert first == dataset_configs(read_folder(folder), config)
    assert len(list((tmp_path / "cache/annotations").iterdir())) == 2
    assert first["val_dataloader"]["dataset"] == first["test_dataloader"]["dataset"]
    (folder / "labels/train/a.txt").write_text(BOX)
    dataset_configs(read_folder(folder), config)
    assert len(list((tmp_path / "cache/annotations").iterdir())) == 3


def test_a_recipe_of_masks_needs_masks(tmp_path):
    folder = write_yolo(tmp_path / "set", {"train/a": BOX, "val/b": BOX})
    with pytest.raises(DataError, match="has boxes but no masks: choose a recipe of boxes alone"):
        dataset_configs(read_folder(folder), read_config("pvt_maskrcnn_scenes"))


def test_a_missing_split_is_named(tmp_path):
    folder = write_yolo(tmp_path / "set", {"val/a": BOX})
    with pytest.raises(DataError, match="has no train split, but val"):
        dataset_configs(read_folder(folder), read_config("pvt_retinanet_scenes"))


def test_stated_class_counts_and_wrapped_datasets_follow(folder):
    config = read_config("pvt_retinanet_scenes")._cfg_dict.to_dict()
    config["model"]["head"]["num_classes"] = 12
    config["train_dataloader"]["dataset"] = dict(
        type="mmengine.RepeatDataset", times=3, dataset=config["train_dataloader"]["dataset"]
    )
    config["val_evaluator"] = [dict(type="densevit.CocoMetric", ann_file="theirs.json", metric="bbox")]
    changes = dataset_configs(read_folder(folder), config)
    assert changes["model"]["head"]["num_classes"] == 2 and config["model"]["head"]["num_classes"] == 12
    assert changes["train_dataloader"]["dataset"]["times"] == 3
    assert changes["train_dataloader"]["dataset"]["dataset"]["classes"] == ["cat", "dog"]
    assert changes["val_evaluator"] == [dict(type="densevit.CocoMetric", metric="bbox")]
