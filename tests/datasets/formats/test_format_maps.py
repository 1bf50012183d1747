"""Folders of images and class maps or depth maps."""

import cv2
import numpy as np
import pytest
from label_folders import write_image, write_text
from PIL import Image

from densevit.datasets.formats import DEPTH, SEMANTIC, dataset_configs, read_folder
from densevit.errors import ConfigError, DataError
from densevit.registry import DATASETS

RECIPE = dict(
    train_dataloader=dict(dataset=dict(type="densevit.SemanticDataset", classes="ade20k", pipeline=[])),
    val_dataloader=dict(dataset=dict(type="densevit.SemanticDataset", classes="ade20k", pipeline=[], test_mode=True)),
    val_evaluator=dict(type="SemanticMetric"),
)
DEPTH_RECIPE = dict(
    train_dataloader=dict(dataset=dict(type="densevit.DepthDataset", depth_scale="nyu", pipeline=[], data_root="x")),
    val_dataloader=dict(dataset=dict(type="densevit.DepthDataset", depth_scale="nyu", pipeline=[], test_mode=True)),
    val_evaluator=dict(type="DepthMetric", crop="nyu_eigen", max_depth=10.0),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEVIT_CACHE", str(tmp_path / "cache"))


def write_map(path, values=(0, 1, 2), palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(values, np.uint8), (20, 40))
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putdata(pixels.ravel().tolist())
        image.putpalette([(7 * i) % 256 for i in range(768)])
    image.save(path)


def datasets(data, recipe=RECIPE, **settings):
    changes = dataset_configs(data, recipe, **settings)
    return [DATASETS.build(changes[f"{name}_dataloader"]["dataset"]) for name in ("train", "val")]


LAYOUTS = {
    "kind first": ("images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
    "split first": ("{split}/images/{name}.jpg", "{split}/labels/{name}.png"),
    "another ending": ("{split}/img/{name}.JPG", "{split}/mask/{name}_mask.png"),
    "split before": ("{split}_images/{name}.jpg", "{split}_masks/{name}.png"),
    "SegNet": ("{split}/{name}.png", "{split}annot/{name}.png"),
    "ADE20K": ("images/{split}ing/{name}.jpg", "annotations/{split}ing/{name}.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("palette", [False, True])
def test_layouts(tmp_path, layout, palette):
    image, label = LAYOUTS[layout]
    splits = ("train", "test" if "ing" in image else "valid")
    for split in splits:
        for name in ("a", "a 1", "ß"):
            write_image(tmp_path / "set" / image.format(split=split, name=f"{split}{name}"), seed=ord(name[-1]))
            write_map(tmp_path / "set" / label.format(split=split, name=f"{split}{name}"), palette=palette)
    data = read_folder(tmp_path / "set", task=SEMANTIC)
    assert data.format == "semantic" and data.classes == ("class 0", "class 1", "class 2")
    if splits[1] == "valid":
        assert [len(part.images) for part in data.splits.values()] == [3, 3]
    for dataset in datasets(data):
        entry = dataset.get_data_info(0)
        assert entry["read_map"](entry["seg_path"]).max() == 2


def test_without_splits_some_images_are_held_out(tmp_path):
    for index in range(10):
        write_image(tmp_path / f"set/images/{index}.jpg", seed=index)
        write_map(tmp_path / f"set/masks/{index}.png", (0, 1, 255))
    write_image(tmp_path / "set/images/alone.jpg")
    write_map(tmp_path / "set/masks/lost.png")
    data = read_folder(tmp_path / "set")
    assert data.left_out == {"images without a map": ["images/alone.jpg"], "maps without an image": ["masks/lost.png"]}
    train, val = datasets(data)
    names = [{dataset.get_data_info(i)["img_id"] for i in range(len(dataset))} for dataset in (train, val)]
    assert len(names[0]) == 8 and len(names[1]) == 2 and not names[0] & names[1]
    assert train.metainfo["classes"] == ("class 0", "class 1")


def test_names_and_the_rule_of_zero_come_from_a_class_file(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"set/images/{index}.jpg", seed=index)
        write_map(tmp_path / f"set/masks/{index}.png", (0, 1, 2))
    write_text(tmp_path / "set/classes.txt", "sky\nroad\n")
    data = read_folder(tmp_path / "set")
    assert data.classes == ("sky", "road") and any("value 0 has no class" in note for note in data.notes)
    entry = datasets(data)[0].get_data_info(0)
    assert set(np.unique(entry["read_map"](entry["seg_path"]))) == {0, 1, 255}
    write_text(tmp_path / "set/classes.txt", "sky\nroad\ncar\n")
    assert read_folder(tmp_path / "set").classes == ("sky", "road", "car")


def test_maps_of_0_and_255_are_background_and_foreground(tmp_path):
    for index in range(3):
        write_image(tmp_path / f"set/images/{index}.jpg", seed=index)
        write_map(tmp_path / f"set/masks/{index}.png", (0, 255))
    data = read_folder(tmp_path / "set")
    assert data.classes == ("background", "foreground")
    entry = datasets(data)[0].get_data_info(0)
    assert set(np.unique(entry["read_map"](entry["seg_path"]))) == {0, 1}


def test_maps_in_colors_need_a_class_file(tmp_path):
    for index in range(3):
        write_image(tmp_path / f"set/images/{index}.jpg", seed=index)
        path = tmp_path / f"set/masks/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colors = np.resize(np.array([[10, 20, 30], [40, 50, 60]], np.uint8), (20, 40, 3))
        cv2.imwrite(str(path), colors[..., ::-1])
    with pytest.raises(DataError, match=r"are in colors: add a classes\.txt") as error:
        read_folder(tmp_path / "set")
    assert "\n" not in str(error.value)
    write_text(tmp_path / "set/labelmap.txt", "road:10,20,30::\nsky:40,50,60::\n")
    entry = datasets(read_folder(tmp_path / "set"))[0].get_data_info(0)
    assert set(np.unique(entry["read_map"](entry["seg_path"]))) == {0, 1}


def test_vocs_class_maps_and_lists(tmp_path):
    for index in range(4):
        write_image(tmp_path / f"set/JPEGImages/{index}.jpg", seed=index)
        if index < 3:
            write_map(tmp_path / f"set/SegmentationClass/{index}.png", (0, 15, 20, 255), palette=True)
    write_text(tmp_path / "set/ImageSets/Segmentation/train.txt", "0\n2\n")
    write_text(tmp_path / "set/ImageSets/Segmentation/val.txt", "1\n")
    data = read_folder(tmp_path / "set")
    assert data.classes[15] == "person" and data.left_out == {"images without a map": ["JPEGImages/3.jpg"]}
    assert [len(dataset) for dataset in datasets(data)] == [2, 1]


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_depth_maps(tmp_path, suffix):
    for split in ("train", "val"):
        for index in range(2):
            write_image(tmp_path / f"set/{split}/rgb/{index}.jpg", seed=index + len(split))
            path = tmp_path / f"set/{split}/depth/{index}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            meters = np.linspace(1, 4, 800).reshape(20, 40)
            if suffix == ".npy":
                np.save(path, meters)
            else:
                cv2.imwrite(str(path), (meters * 500).astype(np.uint16))
    data = read_folder(tmp_path / "set")
    assert data.format == "depth" and [len(part.images) for part in data.splits.values()] == [2, 2]
    scale = 500 if suffix == ".png" else 1
    dataset = datasets(data, DEPTH_RECIPE, depth_scale=scale)[1]
    entry = dataset.get_data_info(0)
    assert entry["read_depth"](entry["depth_path"]).max() == pytest.approx(4, abs=0.01)
    assert dataset_configs(data, DEPTH_RECIPE)["val_evaluator"] == dict(type="DepthMetric", max_depth=10.0)
    recipe = dict(DEPTH_RECIPE, train_dataloader=dict(dataset=dict(type="ScenesDataset", images=4)))
    if suffix == ".png":
        with pytest.raises(ConfigError, match="Nothing states the unit"):
            dataset_configs(data, recipe)


def test_a_recipe_of_other_labels_is_refused(tmp_path):
    for index in range(2):
        write_image(tmp_path / f"set/images/{index}.jpg", seed=index)
        write_map(tmp_path / f"set/masks/{index}.png")
    with pytest.raises(DataError, match=r"no known format with labels for depth .*the labels there are semantic"):
        read_folder(tmp_path / "set", task=DEPTH)
    with pytest.raises(ConfigError, match="needs labels for depth"):
        dataset_configs(read_folder(tmp_path / "set"), DEPTH_RECIPE)
