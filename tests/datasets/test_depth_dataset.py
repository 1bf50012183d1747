"""DepthDataset finds images and depth in every usual layout, in meters, and names what is missing or wrong."""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from tiny_depth import make_tiny_depth, put_depth, put_image, tiny_depth, tiny_depth_dataset

import densevit.datasets  # noqa: F401
from densevit.datasets.scenes.writer import Settings, write_tree
from densevit.datasets.validation import check_datasets, require_readable_images
from densevit.errors import ConfigError, DataError
from densevit.registry import DATASETS

TRAIN = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="RandomFlip"), dict(type="PackSample")]
TEST = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(96, 24)),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]


@pytest.fixture
def tree(tmp_path):
    return make_tiny_depth(tmp_path / "tree")


def build(tree, **settings):
    dataset = DATASETS.build(tiny_depth_dataset(tree, **settings))
    dataset.full_init()
    return dataset


def ground_truth_of(dataset, location: int) -> np.ndarray:
    return dataset[location]["data_samples"].gt_depth.numpy()


def test_image_and_depth_of_an_item_belong_together(tree):
    dataset = build(tree)
    assert len(dataset) == 4
    for location in range(4):
        item = dataset[location]
        ground_truth = item["data_samples"].gt_depth
        assert ground_truth.dtype == torch.float32 and np.array_equal(ground_truth.numpy(), tiny_depth(location))
        assert (ground_truth == 0).sum() > 300  # holes stay holes
        assert (item["inputs"][0] == location).all() and item["data_samples"].img_id == f"{location:03}"
    assert dataset.metainfo["ann_file"] == str(tree / "depth") and dataset.metainfo["depth_scale"] == 1000


def test_behind_a_resize_the_ground_truth_keeps_its_own_size(tree):
    sample = build(tree, pipeline=TEST, test_mode=True)[1]["data_samples"]
    assert sample.img_shape == (24, 32) and "gt_depth" not in sample
    assert sample.original_depth.dtype == torch.float32
    assert np.array_equal(sample.original_depth.numpy(), tiny_depth(1))


def test_the_tree_and_the_lists_of_nyu(tmp_path):
    for split, folder in (("train", "sync"), ("test", "official_splits/test")):
        for room in ("kitchen_0028b", "bathroom"):
            put_image(tmp_path / folder / room / "rgb_00045.jpg", len(room))
            put_depth(tmp_path / folder / room / "sync_depth_00045.png", tiny_depth(len(room)))
        slash = "/" if split == "train" else ""  # BTS's train list begins its paths with one
        (tmp_path / f"nyudepthv2_{split}_files_with_gt.txt").write_text(
            f"{slash}kitchen_0028b/rgb_00045.jpg {slash}kitchen_0028b/sync_depth_00045.png 518.8579\n"
            f"{slash}bathroom/rgb_00045.jpg {slash}bathroom/sync_depth_00045.png 518.8579\n"
        )
        dataset = build(
            tmp_path,
            depth_scale="nyu",
            ann_file=f"nyudepthv2_{split}_files_with_gt.txt",
            data_prefix=dict(img=folder, depth=folder),
        )
        assert [dataset[i]["data_samples"].img_id for i in range(2)] == [
            "kitchen_0028b/rgb_00045",
            "bathroom/rgb_00045",
        ]
        assert np.array_equal(ground_truth_of(dataset, 0), tiny_depth(len("kitchen_0028b")))
        assert np.array_equal(ground_truth_of(dataset, 1), tiny_depth(len("bathroom")))


def test_the_tree_and_the_lists_of_kitti(tmp_path, caplog):
    lines = []
    for number in range(3):
        drive = f"2011_09_26_drive_000{number}_sync"
        image = f"2011_09_26/{drive}/image_02/data/0000000069.png"
        depth = f"{drive}/proj_depth/groundtruth/image_02/0000000069.png"
        put_image(tmp_path / image, number)
        if number != 1:
            put_depth(tmp_path / "data_depth_annotated" / depth, tiny_depth(number) * 8, 256)
        lines.append(f"{image} {depth if number != 1 else 'None'} 721.5377\n")
    (tmp_path / "eigen_test_files_with_gt.txt").write_text("".join(lines))
    settings = dict(ann_file="eigen_test_files_with_gt.txt", depth_scale="kitti")
    dataset = build(tmp_path, data_prefix=dict(img="", depth="data_depth_annotated"), **settings)
    assert [dataset[i]["data_samples"].img_id.split("/")[1][-6] for i in range(len(dataset))] == ["0", "2"]
    np.testing.assert_allclose(ground_truth_of(dataset, 1), tiny_depth(2) * 8, atol=1 / 512)
    assert np.array_equal(ground_truth_of(dataset, 1) == 0, tiny_depth(2) == 0)
    without = build(tmp_path, data_prefix=dict(img=""), test_mode=True, **settings)  # images alone: all of the list
    assert len(without) == 3 and "gt_depth" not in without[1]["data_samples"]


def test_a_list_of_names_chooses_and_orders(tree):
    (tree / "some.txt").write_text("002\n000.png\n")
    dataset = build(tree, ann_file="some.txt")
    assert [dataset[i]["data_samples"].img_id for i in range(2)] == ["002", "000"]
    (tree / "some.txt").write_text("002\n009\n")
    with pytest.raises(DataError, match=r"some.txt names '009', but there is no 009\(\.jpg"):
        build(tree, ann_file="some.txt")
    (tree / "some.txt").write_text("rgb/002.png depth/002.png\nrgb/003.png\n")
    with pytest.raises(DataError, match=r"Line 2 of .*some.txt is 'rgb/003.png': name image and depth map"):
        build(tree, ann_file="some.txt", data_prefix=dict(img="", depth=""))


@pytest.mark.parametrize("kind", ["npy", "exr"])
def test_npy_and_exr_are_meters_where_nothing_is_said(root, tmp_path, kind):
    put_image(tmp_path / "rgb/a.png", 0, (37, 23))
    (tmp_path / "depth").mkdir()
    shutil.copy(root / "tests/data/depth/half_zip.exr", tmp_path / "depth/a.exr")
    expected = 1 + np.arange(23) / 4
    np.save(tmp_path / "depth/a.npy", np.tile(expected, (37, 1)))
    dataset = build(tmp_path, depth_scale=None, depth_suffix=f".{kind}")
    assert np.array_equal(ground_truth_of(dataset, 0)[0], expected.astype(np.float32))


def test_maps_beside_their_images(tmp_path):
    for seed, name in enumerate("ab"):
        put_image(tmp_path / f"{name}.png", seed)
        put_depth(tmp_path / f"{name}_depth.png", tiny_depth(seed))
    dataset = build(tmp_path, data_prefix=dict(img="", depth=""), depth_suffix="_depth.png")
    assert len(dataset) == 2 and all(np.array_equal(ground_truth_of(dataset, i), tiny_depth(i)) for i in range(2))


REAL = [
    ("nyu_sample", dict(data_prefix=dict(img="rgb", depth="depth"), depth_scale="nyu"), "name"),
    ("kitti_sample", dict(data_prefix=dict(img="rgb", depth="depth"), depth_scale="kitti"), "name"),
    (
        "indoor_depth_extra",
        dict(
            data_prefix=dict(img="", depth=""),
            depth_scale="tum",
            img_suffix="_office.jpg",
            depth_suffix="_office_depth.png",
        ),
        dict(tum=(248250, 1.464, 9.331, 2.477113)),
    ),
    (
        "indoor_depth_extra",
        dict(data_prefix=dict(img="", depth=""), depth_scale=1000, img_suffix="_left.jpg", depth_suffix="_depth.png"),
        dict(motorcycle=(343274, 2.110, 5.017, 3.136828)),
    ),
]


@pytest.mark.parametrize(("folder", "settings", "expected"), REAL)
def test_real_depth_has_its_units_and_its_holes(shared, folder, settings, expected):
    location = shared / "data" / folder
    if not location.is_dir():
        pytest.skip(f"no {location}")
    if expected == "name":
        records = json.loads((location / "info.json").read_text())
        keys = ("valid_pixels", "min_m", "max_m", "mean_m")
        expected = {record["name"]: tuple(record[key] for key in keys) for record in records}
    dataset = build(location, **settings)
    require_readable_images(dataset)
    found = {}
    for item in dataset:
        depth = item["data_samples"].gt_depth
        assert depth.shape == item["inputs"].shape[1:]
        known = depth[depth > 0].double()
        found[item["data_samples"].img_id] = (len(known), float(known.min()), float(known.max()), float(known.mean()))
    assert set(found) == set(expected)
    for name, metrics in expected.items():
        assert found[name][0] == metrics[0]
        assert found[name][1:] == pytest.approx(metrics[1:], abs=6e-4)
        assert found[name][3] == pytest.approx(metrics[3], abs=2e-6)


def test_a_written_tree_of_scenes_has_the_renderers_depth(tmp_path):
    write_tree(tmp_path / "scenes", Settings(images=2, val=1, seed=5, size=(64, 80), labels=("depth",)))
    prefix = dict(img="train2017", depth="depth/train")
    written = build(tmp_path / "scenes", data_prefix=prefix, depth_scale="scenes")
    rendered = DATASETS.build(dict(type="densevit.ScenesDataset", images=2, seed=5, size=(64, 80)))
    for location in range(2):
        np.testing.assert_allclose(
            ground_truth_of(written, location), rendered.scene(location)["gt_depth"], atol=5.1e-4
        )


def test_a_test_set_may_come_without_maps_and_training_may_not(tree):
    dataset = build(tree, data_prefix=dict(img="rgb"), depth_scale=None, test_mode=True)
    assert len(dataset) == 4 and "gt_depth" not in dataset[0]["data_samples"]
    with pytest.raises(ConfigError, match="depth=folder of the depth maps"):
        build(tree, data_prefix=dict(img="rgb"))


@pytest.mark.parametrize("pipeline", [TRAIN, TEST])
@pytest.mark.parametrize("kind", ["png", "npy"])
def test_another_size_than_the_maps_is_named(tree, pipeline, kind):
    put_depth(tree / "depth/001.png", tiny_depth(1, (48, 60)))
    if kind == "npy":
        for seed in range(4):
            np.save(tree / f"depth/{seed:03}.npy", tiny_depth(seed, (48, 60 if seed == 1 else 64)))
    settings = dict(depth_suffix=".npy", depth_scale=1) if kind == "npy" else {}
    dataset = build(tree, pipeline=pipeline, **settings)
    said = rf"001.png is 64x48 pixels, but depth map .*depth/001.{kind} is 60x48"
    with pytest.raises(DataError, match=said):
        dataset[1]
    with pytest.raises(DataError, match=said):
        require_readable_images(dataset)


def test_what_is_missing_is_named(tree):
    with pytest.raises(DataError, match=r"There is no image folder .*nowhere: lay the data out"):
        build(tree, data_prefix=dict(img="nowhere", depth="depth"))
    with pytest.raises(DataError, match=r"There is no folder of depth maps .*nowhere"):
        build(tree, data_prefix=dict(img="rgb", depth="nowhere"))
    with pytest.raises(DataError, match=r"There is no image \*\.tif in"):
        build(tree, img_suffix=".tif")
    with pytest.raises(DataError, match=r"There is no list of names .*nowhere.txt"):
        build(tree, ann_file="nowhere.txt")
    (tree / "depth/001.png").unlink()
    (tree / "depth/003.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 4 depth maps are missing or empty, the first is .*depth/001.png"):
        build(tree)
    put_image(tree / "rgb/002.jpg", 2)
    with pytest.raises(DataError, match="would have the same depth map"):
        build(tree)


def test_wrong_arguments_are_named(tree):
    with pytest.raises(ConfigError, match="keys img and depth, not 'seg'"):
        build(tree, data_prefix=dict(img="rgb", seg="depth"))
    with pytest.raises(ConfigError, match=r"number that stands for one meter.*: PNG maps need one"):
        build(tree, depth_scale=None)
    for wrong in (0, -1000, "nyuu", float("inf")):
        with pytest.raises(ConfigError, match=f"number that stands for one meter.*: not {wrong!r}"):
            build(tree, depth_scale=wrong)


def test_wrong_units_and_empty_maps_stop_before_training(tree):
    with pytest.raises(DataError, match=r"The largest depth in .*000.png is \d,\d{3} m: millimeters\? set depth_scale"):
        require_readable_images(build(tree, depth_scale=1))
    with pytest.raises(DataError, match=r"The largest depth in the maps of .* is 0.009 m: correct depth_scale=1e\+06"):
        require_readable_images(build(tree, depth_scale=1e6))
    require_readable_images(build(tree))
    put_depth(tree / "depth/002.png", np.zeros((48, 64)))
    with pytest.raises(DataError, match=r"002.png holds no depth, its 3072 pixels are holes"):
        require_readable_images(build(tree))


def test_a_broken_map_is_skipped_where_that_was_asked_for(tree):
    cv2.imwrite(str(tree / "depth/001.png"), np.full((48, 64), 9, np.uint8))
    dataset = build(tree, on_broken="skip")
    require_readable_images(dataset)
    ids = {dataset[1, epoch]["data_samples"].img_id for epoch in range(20)}
    assert "001" not in ids and len(ids) > 1
    assert dataset.broken_images() == [str(tree / "rgb/001.png")]


def test_workers_get_a_small_pickle_and_give_the_same_items(tree):
    dataset = build(tree, pipeline=TRAIN)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 40_000
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    for location, item in enumerate(loader):
        assert torch.equal(item["data_samples"].gt_depth, dataset[location]["data_samples"].gt_depth)


def test_datasets_of_several_units_go_together(tree, tmp_path):
    put_image(tmp_path / "far/rgb/a.png", 0)
    put_depth(tmp_path / "far/depth/a.png", tiny_depth(9), 5000)
    parts = [tiny_depth_dataset(tree), tiny_depth_dataset(tmp_path / "far", depth_scale="tum")]
    joined = dict(type="ConcatDataset", datasets=parts, ignore_keys=["ann_file", "depth_scale"])
    dataset = DATASETS.build(dict(type="RepeatDataset", times=2, dataset=joined))
    assert len(dataset) == 10 and np.array_equal(ground_truth_of(dataset, 3), tiny_depth(3))
    np.testing.assert_allclose(ground_truth_of(dataset, 4), tiny_depth(9), atol=1e-4)
    require_readable_images(dataset)
    config = dict(train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=joined)))
    assert [report.images for report in check_datasets(config)] == [4, 1]
    put_depth(tmp_path / "far/depth/a.png", np.zeros((48, 64)))
    with pytest.raises(DataError, match=r"far/depth/a.png holds no depth"):
        require_readable_images(dataset)


def test_depth_beyond_what_the_dataset_states_is_a_hole(tree):
    whole, cut = build(tree), build(tree, max_depth=3.0)
    for location in range(len(whole)):
        depth = ground_truth_of(whole, location)
        assert (depth > 3).any() and (depth[depth > 0] <= 3).any()
        assert np.array_equal(ground_truth_of(cut, location), np.where(depth > 3, 0, depth))


def test_a_sentinel_of_the_sky_is_no_wrong_unit_where_a_largest_depth_is_stated(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    values = np.where(tiny_depth(0) > 3, 65504, tiny_depth(0)).astype(np.float32)
    for path in (tree / "depth").iterdir():
        np.save(path.with_suffix(".npy"), values)
    settings = dict(depth_suffix=".npy", depth_scale=None)
    with pytest.raises(DataError, match="depth_scale on the dataset"):
        build(tree, **settings).check_before_training()
    dataset = build(tree, max_depth=80, **settings)
    dataset.check_before_training()
    assert ground_truth_of(dataset, 0).max() <= 3
    with pytest.raises(DataError, match=r"are holes or beyond max_depth=0.001 .is depth_scale right.*: replace"):
        build(tree, max_depth=0.001, **settings).check_before_training()
    with pytest.raises(ConfigError, match="max_depth of a dataset of depth is meters or None, not -1"):
        build(tree, max_depth=-1)


def test_lists_of_pairs_may_have_marks_comments_and_backslashes(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    (tree / "pairs.txt").write_bytes("\ufeff# image map focal\r\n\\001.png \\001.png 500\r\n".encode())
    dataset = build(tree, ann_file="pairs.txt")
    assert len(dataset) == 1 and np.array_equal(ground_truth_of(dataset, 0), tiny_depth(1))


def test_maps_without_an_image_are_named(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    (tree / "rgb/001.png").unlink()
    assert build(tree).left_out[0].endswith("(depth maps without an image): 001.png")
