"""The metrics against pycocotools used plainly, and against metrics published beside real files."""

import contextlib
import copy
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevit.errors import ConfigError, DataError
from densevit.metrics.coco_eval import (
    BACKENDS,
    METRIC_NAMES,
    choose_backend,
    class_table,
    evaluate_coco,
    format_metrics,
)

# pycocotools 2.0.11's own decode on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def said(monkeypatch):
    """The lines that are logged."""
    lines = []
    for module in ("coco_format", "coco_eval"):
        monkeypatch.setattr(f"densevit.metrics.{module}.print_log", lambda line, *_, **__: lines.append(line))
    return lines


def plain_pycocotools(ground_truth: dict, results: list[dict], metric: str) -> list[float]:
    """The twelve metrics as a script of three lines with pycocotools gives them."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), metric)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Crowds, classes without objects, images without either, equal scores, doubled and half-right boxes."""
    rng = np.random.default_rng(seed)
    size = [int(rng.integers(60, 200)), int(rng.integers(60, 200))]
    images = [{"id": int(i), "height": size[0], "width": size[1]} for i in rng.permutation(1000)[:12]]
    categories = [{"id": int(i), "name": f"c{i}"} for i in rng.permutation(90)[:5]]

    def rectangle(box):
        mask = np.zeros(size, np.uint8, order="F")
        x, y, w, h = (int(v) for v in box)
        mask[y : y + h, x : x + w] = 1
        mask[y : y + h // 2, x : x + w // 3] = 0
        rle = rle_codec.encode(mask)
        return {"size": rle["size"], "counts": rle["counts"].decode()}

    annotations, results = [], []
    for image in images[2:]:
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 50, 2)
            w, h = rng.uniform(4, 100, 2)
            box = [x, y, w, h]
            category = categories[rng.integers(0, 4)]["id"]
            crowd = int(rng.random() < 0.2)
            polygon = [[x, y, x + w, y, x + w, y + h * 0.8, x, y + h]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "area": w * h * float(rng.uniform(0.4, 1)),
                    "iscrowd": crowd,
                    "segmentation": rectangle(box) if crowd else polygon,
                }
            )
            for _ in range(rng.integers(0, 4)):
                noisy = (np.array(box) + rng.normal(0, 3, 4) * [1, 1, 1, 1]).clip(1)
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": category if rng.random() < 0.8 else categories[rng.integers(0, 5)]["id"],
                        "bbox": noisy.tolist(),
                        "segmentation": rectangle(noisy),
                        "score": round(float(rng.random()), 1),
                    }
                )
    return {"images": images, "categories": categories, "annotations": annotations}, results


def without(records: list[dict], key: str) -> list[dict]:
    return [{k: v for k, v in record.items() if k != key} for record in records]


@pytest.mark.parametrize("seed", range(25))
def test_random_cases_give_pycocotools_own_metrics(seed, backend):
    ground_truth, results = random_case(seed)
    if not results:
        pytest.skip("pycocotools cannot load an empty list")
    before = copy.deepcopy((ground_truth, results))
    ours = evaluate_coco(ground_truth, results, ["bbox", "segm"], backend)
    assert (ground_truth, results) == before
    for metric, other in (("bbox", "segmentation"), ("segm", "bbox")):
        expected = plain_pycocotools(ground_truth, without(results, other), metric)
        np.testing.assert_allclose([ours[f"{metric}_{k}"] for k in METRIC_NAMES], expected, rtol=0, atol=1e-12)


def test_more_than_a_hundred_detections_in_an_image_are_cut_as_pycocotools_cuts_them(backend):
    rng = np.random.default_rng(0)
    ground_truth, _ = random_case(3)
    boxes = np.concatenate([rng.uniform(0, 60, (400, 2)), rng.uniform(5, 60, (400, 2))], 1)
    image = ground_truth["annotations"][0]["image_id"]
    category = ground_truth["annotations"][0]["category_id"]
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": float(score)}
        for box, score in zip(boxes.tolist(), rng.random(400), strict=True)
    ]
    ours = evaluate_coco(ground_truth, results, "bbox", backend)
    expected = plain_pycocotools(ground_truth, results, "bbox")
    np.testing.assert_allclose([ours[f"bbox_{k}"] for k in METRIC_NAMES], expected, rtol=0, atol=1e-12)


def metrics_beside(expected: dict, metric: str) -> dict[str, float]:
    return {f"{metric}_{key}": expected[key] for key in METRIC_NAMES}


@pytest.mark.parametrize(
    ("results", "metric", "column"),
    [
        ("bbox_results.json", "bbox", "bbox"),
        ("segm_results.json", "segm", "segm"),
        ("segm_results.json", "bbox", "segm_results_scored_as_bbox"),
    ],
)
def test_golden_metrics_of_the_coco_api(shared, backend, results, metric, column):
    folder = shared / "data" / "coco_eval_golden"
    expected = json.loads((folder / "expected.json").read_text())[column]["stats"]
    ours = evaluate_coco(folder / "annotations.json", folder / results, metric, backend)
    assert {k: round(v, 6) for k, v in ours.items()} == metrics_beside(expected, metric)


def test_golden_metrics_of_each_class(shared, backend):
    folder = shared / "data" / "coco_eval_golden"
    expected = json.loads((folder / "expected.json").read_text())["bbox"]["per_class"]
    ours = evaluate_coco(folder / "annotations.json", folder / "bbox_results.json", "bbox", backend, per_class=True)
    measured = [row for row in ours["bbox_classes"] if row["AP"] > -1]
    assert len(ours["bbox_classes"]) == 80
    assert {row["name"] for row in measured} == set(expected)
    for row in measured:
        for key in ("AP", "AP50", "AR100"):
            assert row[key] == pytest.approx(expected[row["name"]][key], abs=1e-6)
    assert "person" in class_table(ours)


def test_results_with_boxes_and_masks_are_scored_each_by_its_own(shared, backend):
    folder = shared / "data" / "coco_real"
    expected = json.loads((folder / "expected.json").read_text())
    ours = evaluate_coco(
        folder / "annotations/instances_val2017.json", folder / "val_made_up_results.json", ["bbox", "segm"], backend
    )
    for metric in ("bbox", "segm"):
        beside = metrics_beside(expected[f"val_made_up_results_{metric}"], metric)
        assert {k: round(v, 6) for k, v in ours.items() if k.startswith(metric)} == beside


def test_a_few_images_of_the_project_itself(root, backend):
    folder = root / "tests" / "data" / "coco_eval"
    expected = json.loads((folder / "expected.json").read_text())
    ours = evaluate_coco(folder / "annotations.json", folder / "results.json", ["bbox", "segm"], backend)
    assert {k: round(v, 6) for k, v in ours.items()} == expected


ONE_BOX = {
    "images": [{"id": 0, "height": 50, "width": 50}],
    "categories": [{"id": 0, "name": "thing"}],
    "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}],
}
FOUND = {"image_id": 0, "category_id": 0, "bbox": [5, 5, 20, 20], "score": 0.9}


def test_nothing_found_is_zero_and_nothing_to_find_is_minus_one(backend):
    nothing_found = evaluate_coco(
        ONE_BOX | {"annotations": [ONE_BOX["annotations"][0] | {"id": 3}]}, [], "bbox", backend
    )
    assert nothing_found["bbox_AP"] == 0 and nothing_found["bbox_APs"] == 0 and nothing_found["bbox_APl"] == -1
    nothing_there = evaluate_coco(ONE_BOX | {"annotations": []}, [FOUND], "bbox", backend)
    assert set(nothing_there.values()) == {-1.0}
    assert set(evaluate_coco(ONE_BOX | {"annotations": []}, [], "bbox", backend).values()) == {-1.0}


def test_ids_from_zero_count_like_any_other(backend):
    with pytest.warns(UserWarning, match="annotation with id 0"):
        assert evaluate_coco(ONE_BOX, [FOUND], "bbox", backend)["bbox_AP"] == pytest.approx(1)


def test_doubled_annotation_ids_and_text_ids_do_not_change_the_metrics(backend):
    ground_truth, results = random_case(5)
    expected = evaluate_coco(ground_truth, results, "bbox", backend)
    renamed = copy.deepcopy(ground_truth)
    order = {
        image["id"]: f"image {n:04d}" for n, image in enumerate(sorted(ground_truth["images"], key=lambda i: i["id"]))
    }
    for image in renamed["images"]:
        image["id"] = order[image["id"]]
    for annotation in renamed["annotations"]:
        annotation.update(id=7, image_id=order[annotation["image_id"]])
    assert (
        evaluate_coco(renamed, [r | {"image_id": order[r["image_id"]]} for r in results], "bbox", backend) == expected
    )


def test_missing_area_and_iscrowd_are_filled(backend):
    ground_truth = ONE_BOX | {"annotations": [{"id": 1, "image_id": 0, "category_id": 0, "bbox": [5, 5, 40, 40]}]}
    metrics = evaluate_coco(ground_truth, [FOUND | {"bbox": [5, 5, 40, 40]}], "bbox", backend)
    assert metrics["bbox_APm"] == pytest.approx(1) and metrics["bbox_APs"] == -1


def test_all_three_writings_of_a_mask_score_alike(backend):
    polygon = [[10, 10, 30, 10, 30, 30, 10, 30]]
    rle = rle_codec.merge(rle_codec.frPyObjects(polygon, 50, 50))
    flat = rle_codec.decode([rle])[..., 0].ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    assert flat[0] == 0
    counts = np.diff([0, *edges, flat.size]).tolist()
    ground_truth = ONE_BOX | {"annotations": [ONE_BOX["annotations"][0] | {"id": 1, "segmentation": polygon}]}
    base = {"image_id": 0, "category_id": 0, "score": 0.5}
    writings = [polygon, {"size": [50, 50], "counts": counts}, rle, rle | {"counts": rle["counts"].decode()}]
    for mask in writings:
        assert evaluate_coco(ground_truth, [base | {"segmentation": mask}], "segm", backend)[
            "segm_AP"
        ] == pytest.approx(1)


def test_chosen_categories_alone_are_scored(backend):
    ground_truth, results = random_case(11)
    chosen = sorted({a["category_id"] for a in ground_truth["annotations"]})[:2]
    smaller = {
        **ground_truth,
        "categories": [c for c in ground_truth["categories"] if c["id"] in chosen],
        "annotations": [a for a in ground_truth["annotations"] if a["category_id"] in chosen],
    }
    fewer = [r for r in results if r["category_id"] in chosen]
    assert evaluate_coco(ground_truth, results, "bbox", backend, categories=chosen) == evaluate_coco(
        smaller, fewer, "bbox", backend
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 99}, "image id 99, which is not in"),
        ({"image_id": [1]}, "image id"),
        ({"category_id": 99}, "category id 99, which is not in"),
        ({"bbox": [0, 0, float("nan"), 1]}, "has a bbox with NaN"),
        ({"bbox": [0, 0, 1]}, "needs a bbox"),
        ({"score": float("nan")}, "has the score nan"),
        ({"score": "high"}, "has the score 'high'"),
        ({"bbox": None}, "has no 'bbox'"),
        ({"bbox": None, "segmentation": {"size": [50, 50]}}, "no mask that can be read"),
        ({"bbox": None, "segmentation": {"size": [50, 40], "counts": "a"}}, "RLE of size"),
        ({"bbox": None, "segmentation": {"size": [50, 50], "counts": "zz!~0"}}, "do not add up"),
        ({"bbox": None, "segmentation": {"size": [50, 50], "counts": [2400, 90]}}, "no mask that can be read"),
        ({"bbox": None, "segmentation": [[0, 0, 1e300, 0, 5, 5]]}, "no mask that can be read"),
        ({"bbox": None, "segmentation": [["a", "b", 1, 2]]}, "no mask that can be read"),
    ],
)
def test_broken_results_are_refused_with_one_sentence(change, said):
    with pytest.raises(DataError, match="detection 1 of the results") as caught:
        evaluate_coco(ONE_BOX | {"annotations": []}, [FOUND, FOUND | change], "bbox")
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": None}, "no list 'annotations'"),
        ({"images": [{"height": 5}]}, "The image at index 0 has no 'id'"),
        ({"images": [{"id": 0}, {"id": "a"}]}, "mixes ids"),
        (
            {"annotations": [ONE_BOX["annotations"][0] | {"id": 1, "bbox": [1, 2, float("inf"), 4]}]},
            "has a bbox with NaN or infinity",
        ),
        ({"annotations": ["box"]}, "no object"),
        ({"images": ["a.jpg"]}, "The image at index 0 has no 'id'"),
        ({"images": [{"id": True}]}, "The image at index 0 has no 'id'"),
        ({"images": [{"id": 0, "height": "50", "width": 50}]}, "needs a width and a height"),
        ({"images": [{"id": 0, "height": 50, "width": -50}]}, "needs a width and a height"),
        ({"images": [{"id": 0}, {"id": 0.0}]}, "Image id 0 stands twice"),
        ({"categories": ["thing"]}, "A category needs a whole-numbered 'id' and a 'name', not 'thing'"),
        ({"categories": [{"id": 0}, {"id": 0}]}, "Category id 0 stands twice"),
    ],
)
def test_broken_annotations_are_refused_with_one_sentence(change, said):
    with pytest.raises(DataError) as caught:
        evaluate_coco({**ONE_BOX, **change}, [], "bbox")
    assert said in str(caught.value)


POLYGON = [[5, 5, 25, 5, 25, 25, 5, 25]]


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        *(
            ({key: value}, "bbox")
            for key in ("image_id", "category_id")
            for value in ("0", None, 99, False, 0.5, [0], {})
        ),
        *(({"iscrowd": value}, "bbox") for value in ("0", "1", 2, [0], float("nan"))),
        *(({"bbox": value}, "bbox") for value in (["5", 5, 20, 20], [5, 5, True, 20], [5, 5, 1e300, 1], "box", [1, 2])),
        *(({"area": value}, "bbox") for value in ("400", float("nan"), float("inf"), True, [1], 1e300, 10**400)),
        ({"bbox": None, "segmentation": None}, "bbox"),
        *(
            ({"segmentation": value}, "segm")
            for value in (
                [[5, 5], [25, 5], [25, 25]],
                [[[5, 5], [25, 5], [25, 25]]],
                [[5, 5, float("nan"), 5, 25, 25]],
                [[5, 5, 1e300, 5, 25, 25]],
                [[5, 5, "25", 5, 25, 25]],
                [5, 5, 25, 5, 25, 25],
                "mask",
                {"counts": "abc"},
                {"size": [50, 50], "counts": "zz!~0"},
                {"size": [50, 50], "counts": "\ud800"},
                {"size": [50, 50], "counts": [2600, -100]},
                {"size": [50, 50], "counts": [10, 10]},
                {"size": [10**9, 10**9], "counts": [10**18]},
                {"size": ["50", 50], "counts": [2500]},
            )
        ),
    ],
)
def test_ground_truth_of_wrong_types_is_refused_by_the_annotations_id(change, metric, backend):
    whole = ONE_BOX["annotations"][0] | {"id": 1, "segmentation": POLYGON}
    ground_truth = ONE_BOX | {"annotations": [whole, whole | {"id": 77} | change]}
    with pytest.raises(DataError, match=r"Annotation 77 .*in the ground truth") as caught:
        evaluate_coco(ground_truth, [FOUND | {"segmentation": POLYGON}], metric, backend)
    assert "\n" not in str(caught.value)


def test_images_need_no_size_where_boxes_are_scored(backend):
    ground_truth = ONE_BOX | {"images": [{"id": 0, "height": None}]}
    ground_truth["annotations"] = [ONE_BOX["annotations"][0] | {"id": 1}]
    assert evaluate_coco(ground_truth, [FOUND], "bbox", backend)["bbox_AP"] == pytest.approx(1)


def test_run_lengths_need_no_size_of_their_image(backend):
    rle = {"size": [50, 50], "counts": [0, 20, 2480]}
    ground_truth = {
        **ONE_BOX,
        "images": [{"id": 0}],
        "annotations": [{**ONE_BOX["annotations"][0], "id": 1, "segmentation": rle}],
    }
    results = [{"image_id": 0, "category_id": 0, "score": 0.5, "segmentation": rle}]
    assert evaluate_coco(ground_truth, results, "segm", backend)["segm_AP"] == pytest.approx(1)
    for size in ([], [50], [-50, -50], None, ["50", 50]):
        for part in (ground_truth["annotations"], results):
            broken = [{**part[0], "segmentation": {**rle, "size": size}}]
            given = (ground_truth, broken) if part is results else ({**ground_truth, "annotations": broken}, results)
            with pytest.raises(DataError, match=r"RLE of size|needs the height and width"):
                evaluate_coco(*given, "segm", backend)


def test_floats_that_are_whole_nulls_and_booleans_of_yes_and_no_score_as_they_are_meant(backend):
    loose = {
        "images": [{"id": 0.0, "height": 50.0, "width": 50.0}],
        "categories": [{"id": 2.0, "name": "thing"}],
        "annotations": [
            {
                "id": 1.0, "image_id": 0.0, "category_id": 2.0, "bbox": [5, 5, 20, 20], "area": None, "iscrowd": None,
                "segmentation": POLYGON,
            },
            {"id": 2.0, "image_id": 0, "category_id": 2, "bbox": [30, 30, 9, 9], "area": 81, "iscrowd": True,
             "segmentation": {"size": [50.0, 50.0], "counts": [2450.0, 50]}},
        ],
    }  # fmt: skip
    found = {"image_id": 0.0, "category_id": 2.0, "bbox": [5.0, 5, 20, 20], "score": 1, "segmentation": POLYGON}
    metrics = evaluate_coco(loose, [found], ["bbox", "segm"], backend)
    assert metrics["bbox_AP"] == pytest.approx(1) and metrics["segm_AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "nothing",
    [None, [], [[]], [[30, 30, 40, 40]], [[30, 30, 40, 40, 50]], {"size": [50, 50], "counts": [2500]},
     {"size": [50, 50], "counts": "T^2"}],
)  # fmt: skip
def test_objects_without_a_usable_mask_are_ignore_regions_where_masks_are_scored(nothing, backend, said):
    whole = ONE_BOX["annotations"][0] | {"id": 1, "segmentation": POLYGON}
    without = whole | {"id": 2, "bbox": [30, 30, 15, 15], "segmentation": nothing}
    inside = FOUND | {"segmentation": [[31, 31, 44, 31, 44, 44, 31, 44]], "score": 0.95}
    metrics = evaluate_coco(ONE_BOX | {"annotations": [whole, without]}, [inside, FOUND | {"segmentation": POLYGON}],
                            "segm", backend)  # fmt: skip
    assert metrics["segm_AP"] == pytest.approx(1) and metrics["segm_AR100"] == pytest.approx(1)
    assert "1 objects without a usable mask are ignore regions" in said[0]


def test_polygons_far_outside_score_alike_in_every_back_end(backend):
    far = [[5, 5, 9e5, 5, 9e5, 9e5, 5, 9e5]]
    ground_truth = ONE_BOX | {"annotations": [ONE_BOX["annotations"][0] | {"id": 1, "segmentation": far, "area": 2025}]}
    square = [[5, 5, 50, 5, 50, 50, 5, 50]]
    for mask in (far, square):
        assert evaluate_coco(ground_truth, [FOUND | {"segmentation": mask}], "segm", backend)[
            "segm_AP"
        ] == pytest.approx(1)


@pytest.mark.parametrize("classes", [1, 2])
def test_more_than_a_hundred_objects_an_image_are_scored_at_a_stated_limit_too(backend, classes, said):
    boxes = [[(i % 15) * 20, (i // 15) * 20, 12, 12] for i in range(202)]
    ground_truth = {
        "images": [{"id": 1, "height": 400, "width": 400}],
        "categories": [{"id": k, "name": str(k)} for k in range(classes)],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": i % classes, "bbox": box} for i, box in enumerate(boxes)
        ],
    }
    results = [
        {"image_id": 1, "category_id": i % classes, "bbox": box, "score": 1 - i / 1000} for i, box in enumerate(boxes)
    ]
    metrics = evaluate_coco(ground_truth, results, "bbox", backend)
    assert metrics["bbox_AP"] < 1 and metrics["bbox_AP@1000"] == pytest.approx(metrics["bbox_AR@1000"]) == 1
    assert list(format_metrics(metrics).splitlines()[-2].split()) == ["AP@1000", "1.000000"]
    fewer = evaluate_coco(ground_truth, results[:90], "bbox", backend)
    assert fewer["bbox_AP@1000"] == pytest.approx(fewer["bbox_AP"])
    assert "up to 202 objects and 202 detections an image, more than 100" in said[0] and "max_per_image" in said[1]
    plain = evaluate_coco(
        ground_truth | {"annotations": ground_truth["annotations"][:100]}, results[:100], "bbox", backend
    )
    assert set(plain) == {f"bbox_{key}" for key in METRIC_NAMES}


@pytest.mark.filterwarnings("ignore:.*annotation with id 0")
def test_masks_cannot_be_scored_on_annotations_without_masks():
    with pytest.raises(DataError, match="use metric 'bbox'"):
        evaluate_coco(ONE_BOX, [FOUND], "segm")


def test_unknown_metric_and_back_end_are_named():
    with pytest.raises(ConfigError, match="'masks' does not exist"):
        evaluate_coco(ONE_BOX, [], "masks")
    with pytest.raises(ConfigError, match="'coco' does not exist; choose from auto, hotcoco"):
        choose_backend("coco")
    assert choose_backend("auto") in BACKENDS


def run_tool(root, *args):
    command = [sys.executable, str(root / "tools" / "eval_results.py"), *map(str, args)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=100, env=environment)


def test_the_tool_prints_twelve_metrics_with_six_decimals(root):
    folder = root / "tests" / "data" / "coco_eval"
    expected = json.loads((folder / "expected.json").read_text())
    done = run_tool(
        root, folder / "results.json", "--ann", folder / "annotations.json", "--metric", "bbox", "segm", "--per-class"
    )
    assert done.returncode == 0, done.stderr
    assert format_metrics(expected) in done.stdout
    assert "class" in done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"image_id": 1', "is no valid JSON"),
        ("{}", "must hold a list"),
        (None, "does not exist"),
        ("[3]", "detection 0"),
    ],
)
def test_the_tool_says_in_one_sentence_what_is_wrong_with_a_results_file(root, tmp_path, content, said):
    results = tmp_path / "results.json"
    if content is not None:
        results.write_text(content)
    done = run_tool(root, results, "--ann", root / "tests" / "data" / "coco_eval" / "annotations.json")
    assert done.returncode == 2 and said in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
