"""CocoMetric's own way: process, gather, score, write."""

import json
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle_codec

from densevit.errors import ConfigError, DataError
from densevit.metrics import CocoMetric, evaluate_coco
from densevit.metrics.coco_eval import BACKENDS, METRIC_NAMES
from densevit.registry import METRICS
from densevit.structures import DataSample, InstanceData

# pycocotools 2.0.11's own decode on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def rle_of(mask: dict) -> dict:
    """A results file's RLE as a head gives it."""
    return {"size": mask["size"], "counts": mask["counts"].encode()}


def samples_from(results: list[dict], ground_truth: dict) -> list[dict]:
    """A model's answers, one for every image, that amount to the results file."""
    label = {c["id"]: k for k, c in enumerate(ground_truth["categories"])}
    samples = []
    for image in ground_truth["images"]:
        mine = [r for r in results if r["image_id"] == image["id"]]
        found = InstanceData(
            bboxes=torch.tensor([r["bbox"] for r in mine], dtype=torch.float64).reshape(-1, 4),
            scores=torch.tensor([r["score"] for r in mine], dtype=torch.float64),
            labels=torch.tensor([label[r["category_id"]] for r in mine], dtype=torch.int64),
        )
        found.bboxes[:, 2:] += found.bboxes[:, :2]
        if results and "segmentation" in results[0]:
            found.masks = [rle_of(r["segmentation"]) for r in mine]
        samples.append(DataSample(metainfo={"img_id": image["id"]}, pred_instances=found).to_dict())
    return samples


def meta(ground_truth: dict, path) -> dict:
    return {
        "classes": tuple(c["name"] for c in ground_truth["categories"]),
        "cat_ids": tuple(c["id"] for c in ground_truth["categories"]),
        "ann_file": str(path),
    }


@pytest.fixture
def case(root):
    folder = root / "tests" / "data" / "coco_eval"
    ground_truth = json.loads((folder / "annotations.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    return ground_truth, results, expected, meta(ground_truth, folder / "annotations.json")


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("metric", ["bbox", "segm"])
def test_golden_metrics_through_process_and_compute(shared, backend, metric):
    pytest.importorskip(backend)
    folder = shared / "data" / "coco_eval_golden"
    ground_truth = json.loads((folder / "annotations.json").read_text())
    results = json.loads((folder / f"{metric}_results.json").read_text())
    for result in results:  # a detector states a box with every mask
        result.setdefault("bbox", [0, 0, 1, 1])
    coco = CocoMetric(metric=metric, backend=backend)
    coco.dataset_meta = meta(ground_truth, folder / "annotations.json")
    samples = samples_from(results, ground_truth)
    for start in range(0, len(samples), 7):
        coco.process(None, samples[start : start + 7])
    metrics = coco.evaluate(len(samples))
    expected = json.loads((folder / "expected.json").read_text())[metric]["stats"]
    for key in METRIC_NAMES:
        assert metrics[f"coco/{metric}_{key}"] == pytest.approx(expected[key], abs=1e-6)


def test_boxes_and_masks_together_from_a_config(case):
    ground_truth, results, expected, data = case
    coco = METRICS.build({"type": "CocoMetric", "metric": ["bbox", "segm"]})
    coco.dataset_meta = data
    coco.process(None, samples_from(results, ground_truth))
    metrics = coco.evaluate(12)
    assert {k: round(v, 6) for k, v in metrics.items()} == {f"coco/{k}": v for k, v in expected.items()}
    assert coco.results == []


def test_written_results_give_the_same_metrics_and_original_ids(case, tmp_path):
    ground_truth, results, _, data = case
    out = tmp_path / "new" / "results.json"
    coco = CocoMetric(out=str(out))
    coco.dataset_meta = data
    coco.process(None, samples_from(results, ground_truth))
    metrics = coco.evaluate(12)
    written = json.loads(out.read_text())
    again = evaluate_coco(data["ann_file"], written, "bbox")
    assert {f"coco/{k}": v for k, v in again.items()} == metrics
    assert sorted((r["image_id"], r["category_id"]) for r in written) == sorted(
        (r["image_id"], r["category_id"]) for r in results
    )
    first = max(results, key=lambda r: r["score"])
    assert any(np.allclose(r["bbox"], first["bbox"]) and r["score"] == first["score"] for r in written)
    assert [p.name for p in out.parent.iterdir()] == ["results.json"]


def test_no_predictions_at_all(case, tmp_path):
    ground_truth, _, _, data = case
    coco = CocoMetric(metric=["bbox", "segm"], out=str(tmp_path / "empty.json"))
    coco.dataset_meta = data
    samples = samples_from([], ground_truth)
    for sample in samples:
        sample["pred_instances"]["masks"] = []
    coco.process(None, samples)
    metrics = coco.evaluate(12)
    assert metrics["coco/bbox_AP"] == metrics["coco/segm_AR100"] == 0
    assert json.loads((tmp_path / "empty.json").read_text()) == []


def test_an_image_seen_twice_counts_once(case):
    ground_truth, results, expected, data = case
    coco = CocoMetric()
    coco.dataset_meta = data
    samples = samples_from(results, ground_truth)
    coco.process(None, samples)
    coco.process(None, samples[:5])
    assert round(coco.evaluate(12)["coco/bbox_AP"], 6) == expected["bbox_AP"]


TWO_PROCESSES = """
import json, os, pickle, sys
import torch.distributed as dist
from densevit.metrics import CocoMetric
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2] + "/meet", rank=rank, world_size=2)
samples, data = pickle.load(open(sys.argv[2] + "/case.pkl", "rb"))
share = samples[0:9] if rank == 0 else samples[8:]  # unequal shares, one image on both
coco = CocoMetric(metric=["bbox", "segm"])
coco.dataset_meta = data
if len(sys.argv) > 3:
    for number, sample in enumerate(share):
        sample["img_id"] = -1 - number
coco.process(None, share)
try:
    print(json.dumps(coco.evaluate(len(samples))))
except Exception as error:
    print(type(error).__name__, error)
dist.destroy_process_group()
"""


def two_processes(tmp_path, *args) -> list[str]:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path), *args],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [run.communicate(timeout=100)[0].strip().splitlines()[-1] for run in runs]


def test_two_processes_gather_each_image_once(case, tmp_path, root, monkeypatch):
    ground_truth, results, expected, data = case
    monkeypatch.setenv("PYTHONPATH", str(root))
    (tmp_path / "case.pkl").write_bytes(pickle.dumps((samples_from(results, ground_truth), data)))
    answers = [json.loads(line) for line in two_processes(tmp_path)]
    assert answers[0] == answers[1]
    assert {k: round(v, 6) for k, v in answers[0].items()} == {f"coco/{k}": v for k, v in expected.items()}


def test_an_error_while_scoring_reaches_both_processes(case, tmp_path, root, monkeypatch):
    ground_truth, results, _, data = case
    monkeypatch.setenv("PYTHONPATH", str(root))
    (tmp_path / "case.pkl").write_bytes(pickle.dumps((samples_from(results, ground_truth), data)))
    for answer in two_processes(tmp_path, "unknown image"):
        assert answer.startswith("DataError") and "is for image id -" in answer


def test_classes_are_found_by_name_where_the_dataset_states_no_ids(case):
    ground_truth, results, expected, data = case
    order = [3, 0, 4, 2, 1]
    shuffled = {**ground_truth, "categories": [ground_truth["categories"][k] for k in order]}
    coco = CocoMetric(ann_file=data["ann_file"])
    coco.dataset_meta = {"classes": tuple(c["name"] for c in shuffled["categories"])}
    coco.process(None, samples_from(results, shuffled))
    assert round(coco.evaluate(12)["coco/bbox_AP"], 6) == expected["bbox_AP"]


def test_each_class_on_request(case):
    ground_truth, results, _, data = case
    coco = CocoMetric(per_class=True)
    coco.dataset_meta = data
    coco.process(None, samples_from(results, ground_truth))
    metrics = coco.evaluate(12)
    rows = evaluate_coco(data["ann_file"], results, "bbox", per_class=True)["bbox_classes"]
    assert {row["name"]: row["AP"] for row in rows} == {
        name: metrics[f"coco/bbox_AP/{name}"] for name in data["classes"]
    }


def test_what_is_kept_does_not_hold_pictures(case):
    ground_truth, results, _, data = case
    coco = CocoMetric(metric="segm")
    coco.dataset_meta = data
    coco.process(None, samples_from(results, ground_truth))
    size = len(pickle.dumps(coco.results))
    assert size < 600 * len(results)  # a mask of these images alone has over 3600 pixels


def test_mistakes_are_named_before_the_first_hour_of_prediction(case):
    ground_truth, results, _, data = case
    samples = samples_from(results, ground_truth)
    with pytest.raises(ConfigError, match="does not exist; choose from"):
        CocoMetric(backend="numpy")
    with pytest.raises(ConfigError, match="knows no annotations"):
        CocoMetric().process(None, samples)
    with pytest.raises(DataError, match="does not exist"):
        CocoMetric(ann_file="/nowhere.json").process(None, samples)
    coco = CocoMetric()
    coco.dataset_meta = data
    with pytest.raises(ConfigError, match="predicts none"):
        coco.process(None, [{"img_id": 1, "pred_semantic": torch.zeros(2, 2)}])
    for sample in samples:
        sample["pred_instances"]["labels"] += 5
    coco.process(None, samples)
    with pytest.raises(DataError, match="made for another dataset"):
        coco.evaluate(12)


def packed_ground_truth(ground_truth: dict, scale: tuple[float, float] = (1.0, 1.0), flip: bool = False) -> list[dict]:
    """The ground truth of each image as a test pipeline packs it: resized, flipped, float32, crowds apart."""
    label = {c["id"]: k for k, c in enumerate(ground_truth["categories"])}
    samples = []
    for image in ground_truth["images"]:
        width, height = round(image["width"] * scale[0]), round(image["height"] * scale[1])
        factor = (width / image["width"], height / image["height"])
        mine = [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]]
        boxes = torch.tensor([a["bbox"] for a in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes * torch.tensor(factor * 2)
        if flip:
            boxes = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
        labels = torch.tensor([label[a["category_id"]] for a in mine], dtype=torch.int64)
        crowd = torch.tensor([bool(a["iscrowd"]) for a in mine])
        parts = [InstanceData(bboxes=boxes[crowd == k], labels=labels[crowd == k]) for k in (False, True)]
        meta = {
            "img_id": image["id"], "ori_shape": (image["height"], image["width"]), "img_shape": (height, width),
            "scale_factor": factor, "flip": flip,
        }  # fmt: skip
        samples.append(DataSample(metainfo=meta, gt_instances=parts[0], ignored_instances=parts[1]).to_dict())
    return samples


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize(("scale", "flip"), [((1.0, 1.0), False), ((1.7, 1.7), True), ((0.6, 0.8), True)])
def test_ground_truth_from_the_samples_gives_the_metrics_of_the_file(case, tmp_path, backend, scale, flip):
    pytest.importorskip(backend)
    ground_truth, results, _, _ = case
    for annotation in ground_truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    assert any(a["iscrowd"] for a in ground_truth["annotations"])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(ground_truth))
    predicted = samples_from(results, ground_truth)
    from_file, from_samples = (CocoMetric(backend=backend, per_class=True) for _ in range(2))
    from_file.dataset_meta = meta(ground_truth, path)
    from_samples.dataset_meta = {k: v for k, v in meta(ground_truth, path).items() if k != "ann_file"}
    from_file.process(None, predicted)
    for sample, packed in zip(predicted, packed_ground_truth(ground_truth, scale, flip), strict=True):
        from_samples.process(None, [{**packed, "pred_instances": sample["pred_instances"]}])
    metrics = from_samples.evaluate(12)
    assert metrics == pytest.approx(from_file.evaluate(12), abs=1e-9)
    assert metrics["coco/bbox_AP"] > 0


def test_ground_truth_from_the_samples_needs_no_category_ids(tmp_path):
    box = torch.tensor([[2.0, 3.0, 20.0, 30.0]])
    sample = {
        "img_id": "left.png", "ori_shape": (40, 50),
        "gt_instances": {"bboxes": box, "labels": torch.tensor([1])},
        "pred_instances": {"bboxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])},
    }  # fmt: skip
    coco = CocoMetric(out=str(tmp_path / "results.json"))
    coco.dataset_meta = {"classes": ("cup", "book")}
    coco.process(None, [sample])
    assert coco.evaluate(1)["coco/bbox_AP"] == pytest.approx(1.0)
    (written,) = json.loads((tmp_path / "results.json").read_text())
    assert (written["image_id"], written["category_id"]) == ("left.png", 2)

    coco.process(None, [{**sample, "gt_instances": {"bboxes": box, "labels": torch.tensor([2])}}])
    with pytest.raises(DataError, match=r"object of class 2, and the dataset has 2 classes"):
        coco.evaluate(1)
    coco.dataset_meta = {}
    coco.process(None, [sample])
    with pytest.raises(ConfigError, match="knows no classes"):
        coco.evaluate(1)
    sample["pred_instances"]["masks"] = [{"size": [40, 50], "counts": b"0"}]
    with pytest.raises(ConfigError, match="needs true masks: give it ann_file, or set with_masks=True"):
        CocoMetric(metric="segm").process(None, [sample])


def with_true_masks(packed: list[dict], ground_truth: dict) -> list[dict]:
    """`packed_ground_truth` with the masks that a test pipeline would pack."""
    for image, sample in zip(ground_truth["images"], packed, strict=True):
        mine = [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]]
        height, width = sample["img_shape"]
        for part, crowd in (("gt_instances", 0), ("ignored_instances", 1)):
            masks = []
            for annotation in mine:
                if annotation["iscrowd"] == crowd:
                    mask = bitmap(annotation["segmentation"], image["height"], image["width"])
                    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
                    masks.append(mask[:, ::-1] if sample["flip"] else mask)
            padded = np.pad(np.array(masks, bool).reshape(-1, height, width), ((0, 0), (0, 9), (0, 5)))
            sample[part]["masks"] = torch.from_numpy(padded)
    return packed


def bitmap(segmentation, height, width):
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return rle_codec.decode(rle_of(segmentation))
    rles = rle_codec.frPyObjects(segmentation, height, width)
    return rle_codec.decode(rle_codec.merge(rles) if isinstance(rles, list) else rles)


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize(("scale", "flip"), [((1.0, 1.0), True), ((1.7, 1.3), True), ((2.0, 2.0), False)])
def test_true_masks_from_the_samples_give_the_metrics_of_the_file(case, tmp_path, backend, scale, flip):
    pytest.importorskip(backend)
    ground_truth, results, _, _ = case
    for annotation in ground_truth["annotations"]:
        image = next(i for i in ground_truth["images"] if i["id"] == annotation["image_id"])
        annotation["area"] = int(bitmap(annotation["segmentation"], image["height"], image["width"]).sum())
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(ground_truth))
    predicted = samples_from(results, ground_truth)
    from_file, from_samples = (CocoMetric(metric=["bbox", "segm"], backend=backend) for _ in range(2))
    from_file.dataset_meta = meta(ground_truth, path)
    from_samples.dataset_meta = {k: v for k, v in meta(ground_truth, path).items() if k != "ann_file"}
    from_file.process(None, predicted)
    packed = with_true_masks(packed_ground_truth(ground_truth, scale, flip), ground_truth)
    for sample, with_ground_truth in zip(predicted, packed, strict=True):
        from_samples.process(None, [{**with_ground_truth, "pred_instances": sample["pred_instances"]}])
    metrics = from_samples.evaluate(12)
    assert metrics == pytest.approx(from_file.evaluate(12), abs=1e-9)
    assert metrics["coco/segm_AP"] > 0 and metrics["coco/segm_APs"] != metrics["coco/segm_AP"]


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_polygons_rle_and_bitmaps_of_the_same_masks_give_the_same_metrics(case, tmp_path, backend):
    pytest.importorskip(backend)
    ground_truth, results, expected, _ = case
    metrics = []
    for form in ("polygons", "rle", "plain counts"):
        for annotation in ground_truth["annotations"]:
            image = next(i for i in ground_truth["images"] if i["id"] == annotation["image_id"])
            mask = np.asfortranarray(bitmap(annotation["segmentation"], image["height"], image["width"]))
            if form == "rle":
                rle = rle_codec.encode(mask)
                annotation["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            elif form == "plain counts":
                flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
                runs = np.diff(np.flatnonzero(np.diff(flat) != 0), prepend=0).tolist()
                annotation["segmentation"] = {"size": list(mask.shape), "counts": runs}
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(ground_truth))
        coco = CocoMetric(metric=["bbox", "segm"], backend=backend)
        coco.dataset_meta = meta(ground_truth, path)
        coco.process(None, samples_from(results, ground_truth))
        metrics.append(coco.evaluate(12))
    for found in metrics:
        assert found == pytest.approx({f"coco/{k}": v for k, v in expected.items()}, abs=1e-6)


def test_written_masks_are_run_lengths_that_score_the_same(case, tmp_path):
    ground_truth, results, expected, data = case
    coco = CocoMetric(metric=["bbox", "segm"], out=str(tmp_path / "results.json"))
    coco.dataset_meta = data
    coco.process(None, samples_from(results, ground_truth))
    coco.evaluate(12)
    written = json.loads((tmp_path / "results.json").read_text())
    assert set(written[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}
    assert {r["segmentation"]["counts"] for r in written} == {r["segmentation"]["counts"] for r in results}
    again = evaluate_coco(data["ann_file"], written, ["bbox", "segm"])
    assert {k: round(v, 6) for k, v in again.items()} == expected
