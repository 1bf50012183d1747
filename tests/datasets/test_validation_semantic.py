"""Checking images with class maps: each mistake gets a line, pixels are counted by class."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from tiny_semantic import CLASSES, make_tiny_semantic, tiny_map, tiny_semantic_dataset

from densevit.datasets.semantic import SemanticDataset
from densevit.datasets.validation import require_readable_images
from densevit.datasets.validation_semantic import check_semantic
from densevit.errors import DataError
from densevit.registry import DATASETS

CONFIG = """
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='SemanticDataset',
            classes='classes.txt',
            data_root='data/any',
            data_prefix=dict(img='images/train', seg='labels/train'),
            pipeline=[dict(type='LoadImage')])))
val_dataloader = dict(
    dataset=dict(
        type='SemanticDataset',
        classes='classes.txt',
        data_root='data/any',
        data_prefix=dict(img='images/val', seg='labels/val'),
        test_mode=True))
test_dataloader = val_dataloader
"""


def run_tool(root, config, *arguments):
    command = [sys.executable, str(root / "tools/check_data.py"), str(config), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root), "PATH": ""})


def test_the_tool_counts_the_pixels_of_class_maps(root, tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree")
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    sound = run_tool(root, config, "--data-root", tree)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert sound.stdout.count("no problem found") == 2  # train and val; test is val again
    assert "images       6, 6 of them and of their maps read" in sound.stdout
    ground_truth = np.stack([tiny_map(seed=i) for i in range(6)])
    for label, name in enumerate(CLASSES):
        counted = f"{name.ljust(6)}{(ground_truth == label).sum():>14}"
        assert counted in sound.stdout, counted
    assert f"{ground_truth.size}, {100 * (ground_truth == 255).mean():.2f} % of them without a class" in sound.stdout
    values = tiny_map(seed=3)
    values[20:23, 20] = 213
    cv2.imwrite(str(tree / "labels/train/train_003.png"), values)
    wrong = run_tool(root, config, "--data-root", tree)
    assert wrong.returncode == 2 and "train_003.png holds the value 213 (3 pixels" in wrong.stdout
    assert "end at 2" in wrong.stdout


def check_maps(tree, images=None, **settings):
    settings = dict(tiny_semantic_dataset(tree, pipeline=[], **settings), check_files=False, test_mode=True)
    return check_semantic(DATASETS.build(settings), images)


def test_each_mistake_of_class_maps_has_its_line(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree", train=8)
    images, maps = tree / "images/train", tree / "labels/train"
    (images / "train_000.png").write_bytes(b"")
    (maps / "train_001.png").unlink()
    (maps / "train_002.png").write_bytes((maps / "train_002.png").read_bytes()[:60])
    (images / "train_003.png").write_bytes(b"no image")
    cv2.imwrite(str(maps / "train_004.png"), np.zeros((48, 63), np.uint8))
    cv2.imwrite(str(maps / "train_005.png"), np.full((48, 64), 9, np.uint8))
    cv2.imwrite(str(maps / "train_006.png"), cv2.imread(str(images / "train_006.png"))[..., ::-1] + 1)
    report = check_maps(tree)
    for part in (
        "Image " + str(images / "train_000.png") + " is empty",
        "Class map " + str(maps / "train_001.png") + " does not exist",
        "train_002.png is truncated",
        "train_003.png",
        "train_004.png is 64x48 pixels, but class map",
        "train_005.png holds the value 9 (3072 pixels",
        "train_006.png holds the color",
    ):
        assert sum(part in problem for problem in report.problems) == 1, part
    assert len(report.problems) == 7 and report.images == 8
    assert all(problem.endswith(".") and "\n" not in problem for problem in report.problems)


def test_classes_that_never_occur_are_named_and_maps_without_any_are_a_problem(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree")
    unused = check_maps(tree, classes=[*CLASSES, "unicorn"])
    assert unused.problems == [] and "note: 1 classes occur in none of the maps read: unicorn" in unused.text()
    assert check_maps(tree, images=2).decoded == 2
    nothing = check_maps(tree, label_map={0: 255, 1: 255, 2: 255})
    assert len(nothing.problems) == 1 and "No pixel has a class in 6 maps" in nothing.problems[0]
    dataset = DATASETS.build(tiny_semantic_dataset(tree, label_map={0: 255, 1: 255, 2: 255}))
    with pytest.raises(DataError, match=r"No pixel has a class in 6 maps of .*: there is nothing to learn"):
        require_readable_images(dataset)


def test_metrics_of_real_class_maps_equal_those_published_beside_them(shared):
    folder = shared / "data/camvid_third"
    published = json.loads((folder / "info.json").read_text())["splits"]
    for part in ("val", "test"):
        settings = dict(classes="camvid", data_root=str(folder), test_mode=True, check_files=False)
        prefix = dict(img=f"images/{part}", seg=f"labels/{part}")
        report = check_semantic(SemanticDataset(data_prefix=prefix, **settings))
        assert report.problems == [] and report.images == report.decoded == published[part]["images"]
        pixels, holders = published[part]["pixels_per_class"], published[part]["images_with_class"]
        assert dict(zip(report.stats["names"], report.stats["pixels"].tolist(), strict=True)) == pixels
        assert dict(zip(report.stats["names"], report.stats["holders"].tolist(), strict=True)) == holders
        assert report.stats["ignored"] == published[part]["void_pixels"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (dict(classes=["bg", "obj"], label_map={2: 255, 1: 255}), "'bg'"),  # masks of 0 and 255
        (dict(classes=["obj"], reduce_zero_label=True, label_map={2: 255}), "'obj'"),
        (dict(classes=["all"], label_map={1: 0, 2: 0}), "'all'"),
        (dict(classes=["bg", "obj"], label_map={2: 255, 1: 255}, on_broken="skip"), "'bg'"),
    ],
)
def test_maps_of_one_class_leave_nothing_to_learn(tmp_path, settings, found):
    tree = make_tiny_semantic(tmp_path / "tree")
    dataset = DATASETS.build(tiny_semantic_dataset(tree, **settings))
    with pytest.raises(DataError, match=f"Every pixel that has a class is {found} in 6 maps"):
        require_readable_images(dataset)
    assert f"Every pixel that has a class is {found}" in check_maps(tree, **settings).problems[0]


def test_a_second_class_that_the_sample_lacks_is_looked_for_in_all_maps(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree")
    for map_file in sorted((tree / "labels/train").iterdir())[:-1]:
        cv2.imwrite(str(map_file), np.zeros((48, 64), np.uint8))
    require_readable_images(DATASETS.build(tiny_semantic_dataset(tree)), most=1)
