"""SemanticDataset finds images and maps in every usual layout, and names what is missing or wrong."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_semantic import CLASSES, COLORS, make_tiny_semantic, tiny_map, tiny_semantic_dataset

import densevit.datasets  # noqa: F401
from densevit.datasets.scenes.writer import Settings, write_tree
from densevit.datasets.validation import require_readable_images
from densevit.errors import ConfigError, DataError
from densevit.registry import DATASETS

FLIP = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="RandomFlip"), dict(type="PackSample")]
TEST = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(96, 24)),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]


@pytest.fixture
def tree(tmp_path):
    return make_tiny_semantic(tmp_path / "tree")


def build(tree, part="train", **settings):
    dataset = DATASETS.build(tiny_semantic_dataset(tree, part, **settings))
    dataset.full_init()
    return dataset


def put(path, values, shape=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, values, np.uint8) if np.isscalar(values) else values)


def test_image_and_classes_of_an_item_belong_together(tree):
    dataset = build(tree)
    assert len(dataset) == 6
    item = dataset[2]
    ground_truth = item["data_samples"].gt_semantic
    assert ground_truth.dtype == torch.int64 and np.array_equal(ground_truth.numpy(), tiny_map(seed=2))
    shown = item["inputs"].permute(1, 2, 0).numpy()[..., ::-1]
    assert np.array_equal(shown, np.array([*COLORS, (0, 0, 0)], np.uint8)[np.minimum(ground_truth.numpy(), 3)])
    assert item["data_samples"].img_id == "train_002"
    meta = dataset.metainfo
    assert meta["classes"] == meta["semantic_classes"] == CLASSES and meta["palette"] == COLORS
    assert meta["label_values"] == (0, 1, 2) and meta["ann_file"] == str(tree / "labels/train")


def test_ade20ks_tree_and_shift(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    values = np.arange(151, dtype=np.uint8).repeat(4)[: 48 * 12].reshape(48, 12)
    put(root / "images/training/ADE_train_00000001.jpg", 90, values.shape)
    put(root / "annotations/training/ADE_train_00000001.png", values)
    prefix = dict(img="images/training", seg="annotations/training")
    ground_truth = build(root, classes="ade20k", data_prefix=prefix)[0]["data_samples"].gt_semantic.numpy()
    assert np.array_equal(ground_truth, np.where(values == 0, 255, values.astype(int) - 1))


@pytest.mark.parametrize(
    ("classes", "ending", "value", "label"),
    [("cityscapes", "labelTrainIds", 13, 13), ("cityscapes_label_ids", "labelIds", 26, 13)],
)
def test_cityscapes_tree(tmp_path, classes, ending, value, label):
    for city, number in (("ulm", 2), ("aachen", 1)):
        name = f"{city}/{city}_00000{number}_000019"
        put(tmp_path / f"leftImg8bit/train/{name}_leftImg8bit.png", 50)
        put(tmp_path / f"gtFine/train/{name}_gtFine_{ending}.png", value)
        put(tmp_path / f"gtFine/train/{name}_gtFine_color.png", 1)
    dataset = build(tmp_path, classes=classes, data_prefix=dict(img="leftImg8bit/train", seg="gtFine/train"))
    assert [dataset[i]["data_samples"].img_id for i in range(2)] == [
        "aachen/aachen_000001_000019",
        "ulm/ulm_000002_000019",
    ]
    assert (dataset[1]["data_samples"].gt_semantic == label).all()


def test_vocs_tree_with_its_list_of_names(tmp_path):
    for number in range(4):
        put(tmp_path / f"JPEGImages/2007_00000{number}.jpg", 50)
    for number in (1, 3):
        put(tmp_path / f"SegmentationClass/2007_00000{number}.png", number)
    listing = tmp_path / "ImageSets/Segmentation/train.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2007_000003\n2007_000001\n")
    settings = dict(
        classes="voc",
        data_prefix=dict(img="JPEGImages", seg="SegmentationClass"),
        ann_file="ImageSets/Segmentation/train.txt",
    )
    dataset = build(tmp_path, **settings)
    assert [int(dataset[i]["data_samples"].gt_semantic[0, 0]) for i in range(len(dataset))] == [3, 1]
    listing.write_text("2007_000009\n")
    with pytest.raises(DataError, match=r"train.txt names '2007_000009', but there is no 2007_000009\(\.jpg"):
        build(tmp_path, **settings)


def test_maps_beside_their_images(tmp_path):
    put(tmp_path / "all/a.png", 50)
    put(tmp_path / "all/a_mask.png", 1)
    put(tmp_path / "all/b.jpg", 50)
    put(tmp_path / "all/b_mask.png", 2)
    dataset = build(tmp_path, classes=CLASSES, data_prefix=dict(img="all", seg="all"), seg_suffix="_mask.png")
    assert [int(dataset[i]["data_samples"].gt_semantic[0, 0]) for i in range(2)] == [1, 2]


def test_a_test_set_may_come_without_maps_and_training_may_not(tree):
    dataset = build(tree, "val", data_prefix=dict(img="images/val", seg=None), test_mode=True)
    assert "gt_semantic" not in dataset[0]["data_samples"]
    with pytest.raises(ConfigError, match="seg=folder of the class maps"):
        build(tree, data_prefix=dict(img="images/train"))


def test_behind_a_resize_the_ground_truth_keeps_its_own_size(tree):
    sample = build(tree, "val", pipeline=TEST, test_mode=True)[1]["data_samples"]
    assert sample.img_shape == (24, 32) and "gt_semantic" not in sample
    assert np.array_equal(sample.original_semantic.numpy(), tiny_map(seed=101))


def test_an_image_turned_by_exif_is_read_as_its_map_lies(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images/a.jpg", exif=exif)
    for shape in ((48, 64), (64, 48)):
        put(tmp_path / "labels/a.png", 1, shape)
        for pipeline in (FLIP, TEST):
            dataset = build(tmp_path, classes=CLASSES, data_prefix=dict(img="images", seg="labels"), pipeline=pipeline)
            assert dataset[0]["data_samples"].ori_shape == shape


@pytest.mark.parametrize("pipeline", [FLIP, TEST])
def test_another_size_than_the_maps_is_named(tree, pipeline):
    put(tree / "labels/train/train_001.png", 1, (48, 60))
    dataset = build(tree, pipeline=pipeline)
    with pytest.raises(
        DataError, match=r"train_001.png is 64x48 pixels, but class map .*labels/train/train_001.png is 60x48"
    ):
        dataset[1]
    with pytest.raises(DataError, match=r"train_001.png is 64x48 pixels, but class map"):
        require_readable_images(dataset)


def test_what_is_missing_is_named(tree, tmp_path):
    with pytest.raises(DataError, match=r"There is no image folder .*nowhere: lay the data out"):
        build(tree, data_prefix=dict(img="nowhere", seg="labels/train"))
    with pytest.raises(DataError, match=r"There is no folder of class maps .*nowhere"):
        build(tree, data_prefix=dict(img="images/train", seg="nowhere"))
    with pytest.raises(DataError, match=r"There is no image \*\.tif in"):
        build(tree, img_suffix=".tif")
    with pytest.raises(DataError, match=r"There is no list of names .*nowhere.txt"):
        build(tree, ann_file="nowhere.txt")
    (tree / "labels/train/train_001.png").unlink()
    (tree / "labels/train/train_004.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 6 class maps are missing or empty, the first is .*train_001.png"):
        build(tree)
    with pytest.raises(DataError, match=r"6 of 6 class maps .* correct seg_suffix='_labels.png'"):
        build(tree, seg_suffix="_labels.png")
    put(tree / "images/train/train_003.jpg", 9)
    with pytest.raises(DataError, match="would have the same class map"):
        build(tree)


def test_wrong_arguments_are_named(tree):
    with pytest.raises(ConfigError, match="keys img and seg, not 'ann'"):
        build(tree, data_prefix=dict(img="images/train", ann="labels/train"))
    with pytest.raises(ConfigError, match="'error' or 'skip', not 'ignore'"):
        build(tree, on_broken="ignore")


def test_an_unknown_value_stops_before_training_or_is_skipped_where_that_was_asked_for(tree, capsys):
    values = tiny_map(seed=3)
    values[20:22, 20] = 77
    put(tree / "labels/train/train_003.png", values)
    with pytest.raises(DataError, match=r"train_003.png holds the value 77 .* end at 2"):
        require_readable_images(build(tree))
    dataset = build(tree, on_broken="skip")
    require_readable_images(dataset)
    ids = {dataset[3, epoch]["data_samples"].img_id for epoch in range(20)}
    assert "train_003" not in ids and len(ids) > 1
    assert dataset.broken_images() == [str(tree / "images/train/train_003.png")]


def test_items_depend_on_seed_epoch_and_index_alone(tree):
    dataset, again = build(tree, pipeline=FLIP), build(tree, pipeline=FLIP)
    flips = [[dataset[i, epoch]["data_samples"].flip for epoch in range(8)] for i in range(6)]
    assert flips == [[again[i, epoch]["data_samples"].flip for epoch in range(8)] for i in range(6)]
    assert {flip for row in flips for flip in row} == {True, False}
    again.seed = 1
    assert flips != [[again[i, epoch]["data_samples"].flip for epoch in range(8)] for i in range(6)]


def test_a_written_tree_of_scenes_is_read_with_the_renderers_classes(tmp_path):
    write_tree(tmp_path / "scenes", Settings(images=3, val=1, seed=5, size=(64, 80), labels=("semantic",)))
    prefix = dict(img="train2017", seg="semantic/train")
    written = build(tmp_path / "scenes", data_prefix=prefix, reduce_zero_label=True)
    rendered = DATASETS.build(dict(type="densevit.ScenesDataset", images=3, seed=5, size=(64, 80)))
    assert written.metainfo["semantic_classes"] == rendered.metainfo["semantic_classes"]
    for location in range(3):
        ground_truth = written[location]["data_samples"].gt_semantic.numpy()
        assert np.array_equal(ground_truth, rendered.scene(location)["gt_semantic"])


def test_workers_get_a_small_pickle_and_give_the_same_items(tree):
    dataset = build(tree, pipeline=FLIP)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 40_000
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    for location, item in enumerate(loader):
        assert torch.equal(item["data_samples"].gt_semantic, dataset[location]["data_samples"].gt_semantic)


def test_indices_take_a_part(tree):
    assert [d["data_samples"].img_id for d in build(tree, indices=[4, 1])] == ["train_004", "train_001"]


def test_images_of_any_readable_ending_are_used_and_the_rest_is_named(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree", train=6)
    images = sorted((tree / "images/train").iterdir())
    kinds = ((".jfif", "JPEG"), (".AVIF", "AVIF"), (".tga", "TGA"))
    for path, (ending, kind) in zip(images[1:4], kinds, strict=True):
        Image.open(path).save(path.with_suffix(ending), kind)
        path.unlink()
    images[4].rename(images[4].with_suffix(".heic"))
    images[5].unlink()
    (tree / "images/train" / ".DS_Store").write_text("hidden")
    dataset = build(tree)
    assert [Path(dataset.get_data_info(i)["img_path"]).suffix for i in range(4)] == [".png", ".jfif", ".AVIF", ".tga"]
    assert all(dataset[i]["inputs"].shape == (3, 48, 64) for i in range(4))
    one, other = dataset.left_out
    assert one.startswith("Not used: 1 of the files in") and one.endswith("(no images by their ending): train_004.heic")
    assert "2 of the files" in other and other.endswith("(class maps without an image): train_004.png, train_005.png")


def test_a_seldom_ending_never_takes_the_place_of_a_usual_one(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree")
    first = min((tree / "images/train").iterdir())
    first.with_suffix(".psd").write_bytes(b"8BPS the layers of the picture")
    dataset = build(tree)
    assert len(dataset) == 6 and dataset.get_data_info(0)["img_path"] == str(first)
    assert dataset.left_out[0].endswith(f": {first.stem}.psd")


def test_a_list_of_some_images_does_not_leave_the_others_maps_without_an_image(tmp_path):
    tree = make_tiny_semantic(tmp_path / "tree")
    (tree / "some.txt").write_bytes("\ufeff# two of six\r\ntrain_003\r\n.\\train_001.png\r\n".encode())
    dataset = build(tree, ann_file="some.txt")
    assert [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))] == ["train_003", "train_001"]
    assert dataset.left_out == []
