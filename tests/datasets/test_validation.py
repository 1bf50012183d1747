"""tools/check_data.py and what it stands on: each mistake gets a line, a sound tree gets none."""

import subprocess
import sys

import pytest
from tiny_coco import edit_annotations, make_tiny_coco, tiny_dataset

import densevit.datasets  # noqa: F401
from densevit.datasets.validation import check_coco, require_readable_images
from densevit.errors import DataError
from densevit.registry import DATASETS


@pytest.fixture
def tree(tmp_path):
    return make_tiny_coco(tmp_path / "coco", crowds=1, empty=1)


def check(tree, images=None):
    return check_coco(tree / "annotations/instances_train2017.json", tree / "train2017", images)


def test_a_sound_tree_has_no_problems(tree):
    report = check(tree)
    assert report.problems == [] and "no problem found" in report.text()
    assert (report.images, report.decoded, report.stats["empty_images"], report.stats["crowds"]) == (8, 8, 1, 1)
    assert sum(report.stats["sizes"]) == report.stats["annotations"] - 1
    assert check(tree, images=3).decoded == 3
    assert check(tree, images=0).decoded == 0


def test_each_mistake_has_its_line(tree):
    def edit(content):
        content["annotations"][0]["bbox"] = [float("nan"), 0, 5, 5]
        content["annotations"][1]["bbox"] = [3, 3, 0, 5]
        content["annotations"][2]["bbox"] = [500, 3, 5, 5]
        content["annotations"][3]["category_id"] = 77
        content["annotations"].append(dict(content["annotations"][4]))
        content["images"][6]["width"] = 81
        content["images"].append(dict(content["images"][0]))

    edit_annotations(tree, edit)
    folder = tree / "train2017"
    (folder / "000000000001.png").unlink()
    (folder / "000000000002.png").write_bytes(b"")
    (folder / "000000000003.png").write_bytes((folder / "000000000003.png").read_bytes()[:80])
    problems = check(tree).problems
    for part in (
        "Annotation 1 has a bbox with NaN",
        "Annotation 2 in",
        "below one pixel",
        "Annotation 3 in",
        "outside its image",
        "Annotation 4 has category_id 77",
        "Annotation id 5 stands twice",
        "Image id 1 stands twice",
        "000000000001.png does not exist",
        "000000000002.png is empty",
        "000000000003.png is truncated",
        "000000000007.png is 80x64 pixels, but its annotations were made for 81x64",
    ):
        assert sum(part in problem for problem in problems) == 1, part
    assert len(problems) == 10
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)


def test_an_empty_file_is_found_without_decoding(tree):
    (tree / "train2017/000000000002.png").write_bytes(b"")
    assert ["is empty" in problem for problem in check(tree, images=0).problems] == [True]


def test_no_annotations_are_a_problem(tree):
    edit_annotations(tree, lambda c: c["annotations"].clear())
    assert "has no annotations" in check(tree).problems[0]


def test_polygons_that_enclose_nothing_and_boxes_without_area_are_problems(tree):
    def edit(content):
        content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
        content["annotations"][1]["area"] = 0

    edit_annotations(tree, edit)
    first, second = sorted(check(tree).problems)
    assert "Annotation 1" in first and "polygon of an odd count or below three points" in first
    assert "Annotation 2" in second and "no area" in second


def boxes(change):
    def edit(content):
        for annotation in content["annotations"]:
            if not annotation["iscrowd"]:
                x, y, w, h = annotation["bbox"]
                annotation["bbox"] = change(x, y, w, h)

    return edit


def masks(change):
    return lambda c: [a.update(segmentation=change(a["segmentation"])) for a in c["annotations"] if not a["iscrowd"]]


def areas_of_boxes(content):
    for annotation in content["annotations"]:
        annotation.pop("segmentation")
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    boxes(lambda x, y, w, h: [x, y, x + w, y + h])(content)


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (boxes(lambda x, y, w, h: [x, y, x + w, y + h]), "problem", "boxes are corners [x1, y1, x2, y2]"),
        (areas_of_boxes, "problem", "boxes are corners [x1, y1, x2, y2]"),
        (masks(lambda m: [[n + 500 for n in part] for part in m]), "problem", "masks lie outside their image"),
        (masks(lambda m: [[n * 3 for n in part] for part in m]), "note", "masks reach beyond their image"),
        (boxes(lambda x, y, w, h: [x, y, 500, 500]), "note", "boxes reach beyond their image"),
        (boxes(lambda x, y, w, h: [0, 0, 6, 6]), "note", "boxes do not fit their own masks"),
        (lambda c: [a.update(area=9e9) for a in c["annotations"]], "note", "areas are not those of their masks"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "note", "objects have no usable mask"),
        (lambda c: c["images"][0].update(file_name="../../x.png"), "problem", "which lies outside"),
    ],
)
def test_boxes_masks_and_image_sizes_that_do_not_belong_together_are_counted_and_named(tree, edit, kind, said):
    edit_annotations(tree, edit)
    report = check(tree, images=0)
    lines = {"problem": report.problems, "note": report.notes}[kind]
    (line,) = [line for line in lines if said in line]
    assert "1" in line and f"{kind}: {line}" in report.text()


def test_a_missing_folder_is_refused(tree):
    with pytest.raises(DataError, match="There is no image folder"):
        check_coco(tree / "annotations/instances_train2017.json", tree / "nowhere")


def test_metrics_of_real_coco_equal_those_published_beside_it(shared):
    folder = shared / "data/coco_real"
    report = check_coco(folder / "annotations/instances_train2017.json", folder / "train2017", images=5)
    assert report.problems == []
    assert (report.images, report.stats["annotations"], report.stats["crowds"]) == (120, 1405, 21)
    assert (report.stats["categories"], report.stats["used_categories"], report.stats["empty_images"]) == (80, 80, 2)
    assert report.stats["sizes"] == (738, 411, 235) and round(report.stats["area"], 3) == 11982848.788


CONFIG = """
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='CocoDataset',
        data_root='data/coco',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/')))
"""


def run_tool(root, config, *arguments):
    command = [sys.executable, str(root / "tools/check_data.py"), str(config), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root), "PATH": ""})


def test_the_tool_exits_with_2_where_there_is_a_problem(root, tree, tmp_path):
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    sound = run_tool(root, config, "--data-root", tree)
    assert sound.returncode == 0, sound.stderr
    assert "images       8 (1 without annotations), 8 of them decoded" in sound.stdout
    (tree / "train2017/000000000002.png").unlink()
    broken = run_tool(root, config, "--data-root", tree, "--images", 2)
    assert broken.returncode == 2 and "000000000002.png does not exist" in broken.stdout
    missing = run_tool(root, config, "--data-root", tmp_path / "nowhere")
    assert missing.returncode == 2 and missing.stdout == ""
    assert missing.stderr.startswith("error: There is no folder") and missing.stderr.count("\n") == 1


def test_training_does_not_begin_with_an_image_that_cannot_be_read(tree):
    dataset = DATASETS.build(tiny_dataset(tree))
    require_readable_images(dataset)
    sorted((tree / "train2017").iterdir())[3].write_bytes(b"no image")
    with pytest.raises(DataError, match="train2017"):
        require_readable_images(dataset)
    require_readable_images(DATASETS.build(tiny_dataset(tree, on_broken="skip")))


@pytest.mark.parametrize("way", ["outside", "below a pixel", "crowd", "without a mask"])
def test_a_training_set_of_which_no_object_is_left_is_refused(tree, way):
    def edit(content):
        for location, annotation in enumerate(content["annotations"]):
            if way == "outside":
                annotation["bbox"] = [500, 3, 5, 5]
            elif way == "below a pixel":
                annotation["bbox"][2] = 0.5
            elif way == "crowd":
                annotation["iscrowd"] = 1
            elif location:  # one crowd keeps its mask
                annotation["segmentation"] = []

    edit_annotations(tree, edit)
    if way == "without a mask":
        edit_annotations(tree, lambda content: content["annotations"][0].update(iscrowd=1))
    dataset = DATASETS.build(tiny_dataset(tree, with_masks=way == "without a mask"))
    with pytest.raises(DataError, match="is left to learn from"):
        require_readable_images(dataset)
    if way != "without a mask":
        assert any("is left to learn from" in problem for problem in check(tree).problems)
