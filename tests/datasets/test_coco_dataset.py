"""CocoDataset: what the file says arrives, and every mistake in it is named."""

import json
import logging
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask
from tiny_coco import edit_annotations, make_tiny_coco, tiny_dataset

from densevit.datasets.coco import CocoDataset
from densevit.errors import ConfigError, DataError
from densevit.ops.masks import decode_rle, rasterize
from densevit.registry import DATASETS


@pytest.fixture
def tree(tmp_path):
    return make_tiny_coco(tmp_path / "coco", crowds=1, empty=1)


@pytest.fixture
def printed():
    """Everything that is logged, as one string when called."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: "\n".join(lines)
    logger.removeHandler(handler)


def build(tree, part="train2017", **settings):
    return DATASETS.build(tiny_dataset(tree, part, **settings))


def refused(tree, sentence, **settings):
    """The one-sentence refusal, checked for its form."""
    with pytest.raises(DataError, match=sentence) as caught:
        build(tree, **settings)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_boxes_labels_and_masks_are_those_of_the_file(tree):
    content = json.loads((tree / "annotations/instances_train2017.json").read_text())
    dataset = build(tree, with_masks=True)
    assert len(dataset) == 8
    for index, image in enumerate(content["images"]):
        ground_truth = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        sample = dataset[index]["data_samples"]
        got = sample.gt_instances
        boxes = np.array([a["bbox"] for a in ground_truth]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.allclose(got.bboxes, boxes, atol=1e-4)
        assert got.labels.tolist() == [(a["category_id"] - 1) // 2 for a in ground_truth]
        for mask, annotation in zip(got.masks, ground_truth, strict=True):
            rles = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
            assert np.array_equal(mask, coco_mask.decode(coco_mask.merge(rles)))
        assert sample.img_id == image["id"] and sample.ori_shape == (64, 80)


def test_crowds_are_ignore_regions_and_empty_images_have_empty_ground_truth(tree):
    dataset = build(tree, with_masks=True)
    first, last = dataset[0]["data_samples"], dataset[7]["data_samples"]
    assert first.ignored_instances.bboxes.tolist() == [[40, 32, 80, 64]]
    assert first.ignored_instances.masks[0, 32:, 40:].all() and first.ignored_instances.masks.sum() == 32 * 40
    assert last.gt_instances.bboxes.shape == (0, 4) and last.gt_instances.masks.shape == (0, 64, 80)
    assert last.gt_instances.labels.dtype == torch.int64


def test_metainfo_maps_labels_back_to_category_ids(tree):
    info = build(tree).metainfo
    assert info["classes"] == ("class 0", "class 1", "class 2")
    assert info["cat_ids"] == (1, 3, 5)
    assert info["ann_file"] == str(tree / "annotations/instances_train2017.json")


def test_labels_follow_rising_category_ids_whatever_their_order_in_the_file(tree):
    edit_annotations(tree, lambda c: c["categories"].reverse())
    assert build(tree).metainfo["cat_ids"] == (1, 3, 5)


def test_category_ids_from_zero_and_with_holes(tree):
    def renumber(content):
        new = {1: 0, 3: 7, 5: 90}
        for record in content["categories"]:
            record["id"] = new[record["id"]]
        for record in content["annotations"]:
            record["category_id"] = new[record["category_id"]]
        for location, record in enumerate(content["annotations"]):
            record["id"] = 3 * location

    before = [d["data_samples"].gt_instances.labels.tolist() for d in build(tree)]
    edit_annotations(tree, renumber)
    dataset = build(tree)
    assert dataset.metainfo["cat_ids"] == (0, 7, 90)
    assert [d["data_samples"].gt_instances.labels.tolist() for d in dataset] == before


def test_image_ids_from_zero_and_with_holes(tree):
    def renumber(content):
        for record in content["images"]:
            record["id"] = (record["id"] - 1) * 10
        for record in content["annotations"]:
            record["image_id"] = (record["image_id"] - 1) * 10

    before = [len(d["data_samples"].gt_instances) for d in build(tree)]
    edit_annotations(tree, renumber)
    dataset = build(tree)
    assert [d["data_samples"].img_id for d in dataset] == list(range(0, 80, 10))
    assert [len(d["data_samples"].gt_instances) for d in dataset] == before


def test_classes_select_and_reorder(tree):
    whole = [a for i in range(8) for a in build(tree).get_cat_ids(i)]
    dataset = build(tree, classes=("class 2", "class 0"))
    assert dataset.metainfo["cat_ids"] == (5, 1)
    chosen = [a for i in range(8) for a in dataset.get_cat_ids(i)]
    assert chosen == [{2: 0, 0: 1}[label] for label in whole if label != 1]


def test_an_unknown_class_is_refused_with_both_lists(tree):
    with pytest.raises(ConfigError, match=r"'clas 2'.*nearest: 'class 2'.*clas 2, class 0;.*0, class 1, class 2\."):
        build(tree, classes=("clas 2", "class 0"))


def test_empty_images_are_kept_unless_reported_otherwise(tree, printed):
    assert len(build(tree)) == 8
    assert "1 images without annotations kept" in printed()
    assert len(build(tree, keep_empty=False)) == 7
    assert "1 images without annotations left out" in printed()
    assert len(build(tree, keep_empty=False, test_mode=True)) == 8


def test_missing_data_root_says_what_where_and_the_ways_on(tmp_path):
    text = refused(tmp_path / "nowhere", "There is no folder")
    assert str(tmp_path / "nowhere") in text and "data/README.md" in text and "--data-root data/scenes" in text


def test_missing_annotation_file_and_image_folder_are_named(tree):
    path = tree / "annotations/instances_train2017.json"
    content = path.read_text()
    path.unlink()
    assert str(path) in refused(tree, "There is no annotation file")
    path.write_text(content)
    (tree / "train2017").rename(tree / "elsewhere")
    assert str(tree / "train2017") in refused(tree, "There is no image folder")


def test_a_missing_or_empty_image_is_named_before_training(tree):
    (tree / "train2017/000000000003.png").write_bytes(b"")
    (tree / "train2017/000000000005.png").unlink()
    refused(tree, r"2 of 8 images .* missing or empty, the first is /.*000000000003.png")


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_annotation_file_is_refused(tree, share):
    path = tree / "annotations/instances_train2017.json"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(tree, f"{path} is no valid JSON")


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"images": [], "categories": 3}', '{"images": [], "annotations": []}']
)
def test_json_of_another_form_is_refused(tree, content):
    (tree / "annotations/instances_train2017.json").write_text(content)
    refused(tree, "has no list '(images|categories)'")


def first_image(**changes):
    return lambda content: content["images"][0].update(changes)


def first_annotation(**changes):
    return lambda content: content["annotations"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (first_annotation(bbox=[float("nan"), 1, 5, 5]), "Annotation 1 has a bbox with NaN"),
        (first_annotation(bbox=[1, 1, float("inf"), 5]), "Annotation 1 has a bbox with NaN or infinity"),
        (first_annotation(bbox=[1, 1, 5]), "Annotation 1 needs a bbox"),
        (first_annotation(bbox=None), "Annotation 1 needs a bbox"),
        (first_annotation(area=float("nan")), "Annotation 1 has the area nan"),
        (first_annotation(segmentation=[[1, 2, float("nan"), 4, 5, 6]]), "Annotation 1 has a polygon with NaN"),
        (
            first_annotation(segmentation=[[1, 2, "3", 4, 5, 6]]),
            "Annotation 1 has a polygon that is no list",
        ),
        (first_annotation(segmentation=dict(size=[5, 5], counts=[25])), "Annotation 1 has an RLE of size"),
        (first_annotation(segmentation=dict(size=[64, 80], counts=[25])), "Annotation 1 has an RLE whose counts"),
        (first_annotation(segmentation=dict(size=[64, 80], counts="zz!~0")), "Annotation 1 has an RLE whose counts"),
        (first_annotation(segmentation=[[1, 2], [3, 4], [5, 6]]), "Annotation 1 has a polygon written as points"),
        (first_annotation(segmentation=[[-1e300, 0, 1e300, 10, 5, 7]]), "Annotation 1 has a polygon with NaN"),
        (first_annotation(bbox=[1, 1, 1e300, 5]), "Annotation 1 has a bbox with NaN or infinity, or a number beyond"),
        (first_annotation(bbox=[1, 1, True, "5"]), "Annotation 1 needs a bbox"),
        (first_annotation(area="12"), "Annotation 1 has the area '12'"),
        (first_annotation(iscrowd="0"), "Annotation 1 has iscrowd '0'"),
        (first_annotation(ignore="0"), "Annotation 1 has ignore '0'"),
        (first_annotation(image_id="1"), "Annotation 1 belongs to image '1'"),
        (first_annotation(category_id="1"), "Annotation 1 has category_id '1'"),
        (first_annotation(category_id=True), "Annotation 1 has category_id True"),
        (first_annotation(id=1.5), "The annotation at index 0 has no 'id'"),
        (first_image(width="80"), "Image 1 needs a width and a height"),
        (first_image(file_name="a\0b.png"), "Image 1 has no 'file_name'"),
        (first_image(file_name="\ud800.png"), "Image 1 has no 'file_name'"),
        (lambda c: c["annotations"].insert(0, "box"), "The annotation at index 0 has no 'id'"),
        (lambda c: c["images"].insert(0, ["a.png"]), "The image at index 0 has no 'id'"),
        (
            lambda c: c.update(categories=["cat", "dog"]),
            "A category needs a whole-numbered 'id' and a 'name', not 'cat'",
        ),
        (first_annotation(segmentation="abc"), "Annotation 1 has a segmentation that is neither"),
        (first_annotation(category_id=2), "Annotation 1 has category_id 2"),
        (first_annotation(image_id=999), "Annotation 1 belongs to image 999"),
        (first_annotation(iscrowd=7), "Annotation 1 has iscrowd 7"),
        (first_annotation(id=2), "Annotation id 2 stands twice"),
        (first_annotation(id=None), "The annotation at index 0 has no 'id'"),
        (first_image(id=2), "Image id 2 stands twice"),
        (first_image(width=0), "Image 1 needs a width and a height"),
        (first_image(height=None), "Image 1 needs a width and a height"),
        (first_image(file_name=None), "Image 1 has no 'file_name'"),
        (lambda c: c["images"].clear(), "lists no images"),
        (lambda c: c["categories"].clear(), "has category_id"),
        (lambda c: c["categories"][0].update(id=3), "Category id 3 stands twice"),
        (lambda c: c["annotations"].clear(), "has no annotations: there is nothing to learn"),
        (lambda c: c.pop("annotations"), "has no annotations: there is nothing to learn"),
    ],
)
def test_mistakes_in_the_annotations_are_refused_by_id(tree, edit, sentence):
    path = edit_annotations(tree, edit)
    assert str(path) in refused(tree, sentence, with_masks=True)


@pytest.mark.parametrize("bbox", [[5, 5, 0, 20], [5, 5, 20, 0.5], [200, 5, 20, 20], [5, -30, 20, 30], [5, 5, -3, 9]])
def test_boxes_without_width_or_outside_the_image_are_left_out_and_counted(tree, printed, bbox):
    before = sum(len(d["data_samples"].gt_instances) for d in build(tree))
    edit_annotations(tree, lambda c: c["annotations"][0].update(bbox=bbox))
    dataset = build(tree)
    assert sum(len(d["data_samples"].gt_instances) for d in dataset) == before - 1
    assert "1 boxes outside their image or below one pixel left out" in printed()


def test_other_keys_of_images_annotations_and_the_file_change_nothing(tree):
    before = build(tree, with_masks=True)[0]["data_samples"].gt_instances

    def edit(content):
        content.update(image_id=3, file_name="a.json")
        for record in (content["images"][0], content["annotations"][0]):
            record.update(image_id=1, file_name=content["images"][0]["file_name"])

    edit_annotations(tree, edit)
    after = build(tree, with_masks=True)[0]["data_samples"].gt_instances
    assert torch.equal(after.bboxes, before.bboxes) and torch.equal(after.masks, before.masks)


def test_a_box_that_sticks_out_is_clipped(tree):
    edit_annotations(tree, lambda c: c["annotations"][0].update(bbox=[-5, 10, 500, 20]))
    assert build(tree)[0]["data_samples"].gt_instances.bboxes[0].tolist() == [0, 10, 80, 30]


def test_an_object_without_a_usable_mask_becomes_an_ignore_region_when_masks_are_wanted(tree, printed):
    edit_annotations(tree, lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]))
    with_masks = build(tree, with_masks=True)[0]["data_samples"]
    assert "1 objects without a usable mask are ignore regions" in printed()
    plain = build(tree)[0]["data_samples"]
    assert len(with_masks.gt_instances) == len(plain.gt_instances) - 1
    assert len(with_masks.ignored_instances) == len(plain.ignored_instances) + 1


def test_a_file_without_any_segmentation_cannot_give_masks(tree):
    edit_annotations(tree, lambda c: [a.pop("segmentation") for a in c["annotations"]])
    refused(tree, "has boxes but no segmentations", with_masks=True)


def test_a_test_set_needs_no_annotations(tree):
    edit_annotations(tree, lambda c: c.pop("annotations"), part="val2017")
    dataset = build(tree, "val2017", test_mode=True)
    assert len(dataset) == 4 and len(dataset[0]["data_samples"].gt_instances) == 0


def test_whole_numbers_as_floats_and_nulls_of_optional_fields_change_nothing(tree):
    def loosen(content):
        for record in content["categories"]:
            record["id"] = float(record["id"])
        for record in content["images"]:
            record.update(id=float(record["id"]), width=float(record["width"]), license=None)
        for record in content["annotations"]:
            record.update(
                {key: float(record[key]) for key in ("id", "image_id", "category_id", "iscrowd")}, ignore=None
            )
            if isinstance(record["segmentation"], dict):
                record["segmentation"]["size"] = [float(side) for side in record["segmentation"]["size"]]

    before = [d["data_samples"] for d in build(tree, with_masks=True)]
    edit_annotations(tree, loosen)
    dataset = build(tree, with_masks=True)
    assert all(type(number) is int for number in dataset.metainfo["cat_ids"])
    for old, new in zip(before, (d["data_samples"] for d in dataset), strict=True):
        assert type(new.img_id) is int and new.img_id == old.img_id and new.ori_shape == old.ori_shape
        for part in ("gt_instances", "ignored_instances"):
            for key in ("bboxes", "labels", "masks"):
                assert torch.equal(old.get(part)[key], new.get(part)[key])


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-16"])
def test_annotations_in_another_unicode_are_read(tree, code):
    path = tree / "annotations/instances_train2017.json"
    path.write_bytes(path.read_text().encode(code))
    assert len(build(tree)) == 8


def test_an_rle_without_a_pixel_is_an_ignore_region(tree, printed):
    for counts in ([64 * 80], [64 * 80, 0], coco_mask.encode(np.zeros((64, 80), np.uint8, "F"))["counts"].decode()):
        mask = dict(size=[64, 80], counts=counts)
        edit_annotations(tree, lambda c, mask=mask: c["annotations"][0].update(segmentation=mask))
        instances = build(tree, with_masks=True)[0]["data_samples"]
        assert len(instances.ignored_instances) == 2
    assert printed().count("1 objects without a usable mask are ignore regions") == 3


def names(change):
    return lambda content: [image.update(file_name=change(image["file_name"])) for image in content["images"]]


def test_images_are_found_by_windows_paths_and_by_paths_inside_the_data(tree):
    expected = build(tree)[3]["inputs"]
    (tree / "train2017/deep").mkdir()
    for path in list((tree / "train2017").glob("*.png")):
        path.rename(path.parent / "deep" / path.name)
    inside = [
        lambda name: f"deep\\{name}",
        lambda name: f".\\deep\\{name.split(chr(92))[-1]}",
        lambda name: f"../train2017/deep/{name.split(chr(92))[-1]}",
        lambda name: str(tree / "train2017/deep" / name.split("/")[-1]),
    ]
    for change in inside:
        edit_annotations(tree, names(change))
        assert torch.equal(build(tree)[3]["inputs"], expected)
    (tree / "train2017" / "a\\b.png").write_bytes((tree / "train2017/deep/000000000001.png").read_bytes())
    edit_annotations(tree, names(lambda name: "a\\b.png"))
    assert torch.equal(build(tree)[3]["inputs"], build(tree)[0]["inputs"])  # the literal name comes first


@pytest.mark.parametrize("name", ["/etc/passwd", "../../elsewhere.png", "deep/../../../x.png", "..\\..\\x.png"])
def test_images_outside_the_data_are_refused(tree, name):
    edit_annotations(tree, lambda c: c["images"][0].update(file_name=name))
    assert "set data_prefix" in refused(tree, "Image 1 has the file_name .* which lies outside")


FLIP = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomChoiceResize", scales=[(80, 64), (120, 96), (160, 128)]),
    dict(type="RandomFlip"),
    dict(type="PhotometricDistortion"),
    dict(type="PackSample"),
]


def test_augmentation_depends_on_seed_epoch_and_index_alone(tree):
    first, second = build(tree, pipeline=FLIP), build(tree, pipeline=FLIP)
    keys = [(i, epoch) for epoch in range(3) for i in range(8)]
    expected = {key: first[key]["inputs"] for key in keys}
    np.random.seed(5)
    for key in reversed(keys):
        assert torch.equal(second[key]["inputs"], expected[key])
    other = build(tree, pipeline=FLIP, seed=1)
    for changed in ({k: first[k[0], 7]["inputs"] for k in keys}, {k: other[k]["inputs"] for k in keys}):
        assert sum(not torch.equal(changed[k], expected[k]) for k in keys) > len(keys) / 2


def test_workers_draw_the_same_augmentation_as_the_main_process(tree):
    dataset = build(tree, pipeline=FLIP)
    keys = [(i, 4) for i in range(8)]
    loader = torch.utils.data.DataLoader(dataset, sampler=keys, batch_size=None, num_workers=2)
    for loaded, key in zip(loader, keys, strict=True):
        assert torch.equal(loaded["inputs"], dataset[key]["inputs"])


def test_loading_leaves_the_training_process_generators_alone(tree):
    dataset = build(tree, pipeline=FLIP)
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3)
    np.random.seed(3)
    dataset[2, 1]
    assert torch.equal(torch.rand(3), expected[0]) and np.array_equal(np.random.rand(3), expected[1])


def test_a_broken_image_stops_training_by_name_unless_skipping_was_asked_for(tree):
    path = tree / "train2017/000000000003.png"
    dataset = build(tree)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"000000000003.png is truncated"):
        dataset[2]


def test_skipped_images_are_replaced_alike_every_time_and_reported_once(tree, printed):
    path = tree / "train2017/000000000003.png"
    path.write_bytes(path.read_bytes()[:50])
    dataset = build(tree, on_broken="skip")
    replacement = dataset[2, 0]["data_samples"].img_id
    assert replacement != 3
    assert all(dataset[2, 0]["data_samples"].img_id == replacement for _ in range(3))
    assert len({dataset[2, epoch]["data_samples"].img_id for epoch in range(20)}) > 1
    assert dataset.broken_images() == [str(path)]
    assert printed().count("Skipped broken image 1 of 8") == 1


def test_broken_images_met_by_workers_are_known_to_the_main_process(tree):
    path = tree / "train2017/000000000003.png"
    path.unlink()
    dataset = build(tree, on_broken="skip")
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert len(list(loader)) == 8
    assert dataset.broken_images() == [str(path)]


def test_a_broken_image_is_never_skipped_in_a_test(tree):
    dataset = build(tree, test_mode=True, on_broken="skip", check_files=False)
    (tree / "train2017/000000000003.png").unlink()
    with pytest.raises(DataError, match=r"000000000003.png does not exist"):
        dataset[2]


def test_annotations_are_one_buffer_of_bytes_and_small(tree):
    dataset = build(tree)
    assert dataset.data_bytes.dtype == np.uint8 and not dataset.data_list
    assert len(pickle.dumps(dataset)) < len(dataset.data_bytes) + 20_000
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[3]["inputs"], dataset[3]["inputs"])


def test_indices_take_a_part_of_the_images(tree):
    assert len(build(tree, indices=3)) == 3
    assert [d["data_samples"].img_id for d in build(tree, indices=[5, 1])] == [6, 2]


@pytest.mark.parametrize("part", ["train", "val"])
def test_metrics_of_real_coco_equal_those_published_beside_it(shared, part):
    folder = shared / "data/coco_real"
    dataset = CocoDataset(
        f"annotations/instances_{part}2017.json",
        data_root=str(folder),
        data_prefix=dict(img=f"{part}2017"),
        with_masks=True,
    )
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    areas, ignore = (np.concatenate([e[key] for e in entries]) for key in ("areas", "ignore"))
    pixels = sum(
        int(rasterize([decode_rle(m) if isinstance(m, dict) else m], (e["height"], e["width"])).sum())
        for e in entries
        for m in e["masks"]
    )
    parts = sum(len(m) > 1 for e in entries for m in e["masks"] if isinstance(m, list))
    expected = {
        "train": [120, 1405, 21, 20, 80, 2, 738, 411, 235, 101, 51, 11982848.788, 20961882.032, 11942124],
        "val": [120, 1259, 15, 13, 80, 1, 592, 439, 213, 83, 45, 10161771.315, 18213083.081, 10140367],
    }[part]
    objects = areas[~ignore]
    sides = np.concatenate([e["bboxes"][:, 2:] - e["bboxes"][:, :2] for e in entries]).astype(np.float64)
    got = [
        len(dataset),
        len(areas),
        int(ignore.sum()),
        sum(bool(e["ignore"].any()) for e in entries),
        len({label for e in entries for label in e["labels"].tolist()}),
        sum(not len(e["labels"]) for e in entries),
        int((objects < 32**2).sum()),
        int(((objects >= 32**2) & (objects < 96**2)).sum()),
        int((objects >= 96**2).sum()),
        parts,
        max(len(e["labels"]) for e in entries),
        round(float(areas.sum()), 3),
        pytest.approx(sides.prod(axis=1).sum(), rel=1e-6),  # boxes are held as float32
        pixels,
    ]
    assert got == expected
