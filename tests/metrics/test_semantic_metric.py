"""SemanticMetric against loops over pixels, metrics by hand and the reference."""

import json

import cv2
import numpy as np
import pytest
import torch
from map_samples import map_sample
from parity.case import read_case
from PIL import Image

from densevit.errors import ConfigError, DataError
from densevit.metrics import SemanticMetric
from densevit.metrics.confusion import EXACT, confusion_matrix, per_class_metrics
from densevit.metrics.semantic import class_table
from densevit.registry import METRICS


def metric_of(classes: int, **settings) -> SemanticMetric:
    metric = METRICS.build({"type": "SemanticMetric", **settings})
    metric.dataset_meta = {"classes": tuple(f"class {k}" for k in range(classes))}
    return metric


def by_loops(pairs, classes: int) -> dict[str, float]:
    """The three metrics, pixel by pixel and class by class."""
    pixels = [
        (int(t), int(p))
        for ground_truth, predicted in pairs
        for t, p in zip(ground_truth.flatten(), predicted.flatten(), strict=True)
        if t != 255
    ]
    ious, accuracies = [], []
    for k in range(classes):
        both = sum(t == k and p == k for t, p in pixels)
        either = sum(t == k or p == k for t, p in pixels)
        true = sum(t == k for t, _ in pixels)
        if either:
            ious.append(both / either)
        if true:
            accuracies.append(both / true)
    right = sum(t == p for t, p in pixels)
    return {
        "semantic/mIoU": sum(ious) / len(ious),
        "semantic/mAcc": sum(accuracies) / len(accuracies),
        "semantic/aAcc": right / len(pixels),
    }


def drawn(rng: np.random.Generator, classes: int, size=(7, 9)) -> tuple[torch.Tensor, torch.Tensor]:
    """Ground truth with holes and a prediction that is often right; neither holds the last class, ground truth not the
    first."""
    ground_truth = rng.integers(1, classes - 1, size)
    predicted = np.where(rng.random(size) < 0.6, ground_truth, rng.integers(0, classes - 1, size))
    ground_truth[rng.random(size) < 0.15] = 255
    return torch.from_numpy(ground_truth), torch.from_numpy(predicted)


def test_a_case_by_hand():
    ground_truth = torch.tensor([[0, 0, 1], [1, 255, 1]])
    predicted = torch.tensor([[0, 1, 1], [1, 2, 0]])  # class 0: 1 of 3, class 1: 2 of 4, the 2 is on a hole
    metric = metric_of(4)
    metric.process(None, [map_sample(1, "semantic", ground_truth, predicted)])
    metrics = metric.evaluate(1)
    assert metrics == pytest.approx(
        {"semantic/mIoU": 5 / 12, "semantic/mAcc": (1 / 2 + 2 / 3) / 2, "semantic/aAcc": 0.6}
    )
    assert all(type(value) is float for value in metrics.values())
    assert metric.results == []


@pytest.mark.parametrize("seed", range(3))
def test_loops_over_pixels_give_the_same_metrics(seed):
    rng = np.random.default_rng(seed)
    pairs = [drawn(rng, 6, size) for size in [(7, 9), (4, 12), (10, 5)]]
    metric = metric_of(6)
    for number, (ground_truth, predicted) in enumerate(pairs):
        sample = map_sample(number, "semantic", ground_truth, predicted, pad=(number, 2), flip=number == 1)
        metric.process(None, [sample])
    assert metric.evaluate(3) == pytest.approx(by_loops(pairs, 6), abs=1e-12)


def test_a_perfect_prediction_is_one_whatever_lies_on_the_holes():
    ground_truth, noise = drawn(np.random.default_rng(3), 5)
    metric = metric_of(5)
    metric.process(
        None,
        [map_sample(1, "semantic", ground_truth, torch.where(ground_truth == 255, noise, ground_truth), pad=(5, 3))],
    )
    assert metric.evaluate(1) == {"semantic/mIoU": 1.0, "semantic/mAcc": 1.0, "semantic/aAcc": 1.0}


def test_a_class_that_is_predicted_but_not_there_has_an_iou_of_zero_and_no_accuracy():
    metric = metric_of(3)
    metric.process(None, [map_sample(1, "semantic", torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))])
    assert metric.evaluate(1) == {"semantic/mIoU": 0.25, "semantic/mAcc": 0.5, "semantic/aAcc": 0.5}


REFERENCE = [
    ("miou", {}, ("aAcc", "mIoU", "mAcc")),
    ("miou_nan0", dict(nan_to_num=0), ("aAcc", "mIoU", "mAcc")),
    ("mdice", dict(metric="mDice"), ("aAcc", "mDice", "mAcc")),
    ("mfscore", dict(metric="mFscore"), ("aAcc", "mFscore", "mPrecision", "mRecall")),
    ("mfscore_b2", dict(metric=["mFscore"], beta=2), ("aAcc", "mFscore", "mPrecision", "mRecall")),
]


@pytest.mark.parametrize(("output", "settings", "names"), REFERENCE, ids=[case[0] for case in REFERENCE])
def test_the_reference_metrics(shared, output, settings, names):
    case = read_case(shared / "parity", "mmseg_iou_metric")
    metric = metric_of(case.model["num_classes"], **settings)
    for number, (ground_truth, predicted) in enumerate(zip(case.inputs["label"], case.inputs["pred"], strict=True)):
        metric.process(None, [map_sample(number, "semantic", ground_truth.long(), predicted.long())])
    metrics = metric.evaluate(3)
    assert set(metrics) == {f"semantic/{name}" for name in names}
    ours = torch.tensor([100 * metrics[f"semantic/{name}"] for name in names])
    assert case.error(output, ours.round(decimals=2)) < 1e-4


def test_the_references_areas_and_class_metrics(shared):
    case = read_case(shared / "parity", "mmseg_iou_metric")
    pairs = zip(case.inputs["label"], case.inputs["pred"], strict=True)
    matrix = sum(
        confusion_matrix(ground_truth, predicted, case.model["num_classes"], "")[0] for ground_truth, predicted in pairs
    )
    right, true, found = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    areas = np.stack((right, true + found - right, found, true))
    assert case.error("areas", torch.from_numpy(areas).double()) == 0
    for name in ("IoU", "Acc"):
        ours = torch.from_numpy(np.nan_to_num(per_class_metrics(matrix)[name], nan=-1))
        assert case.error(f"class_{name}_nan_to_m1", ours) < 1e-6


def by_file(folder, name):
    return torch.from_numpy(cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED).astype(np.int64))


def test_the_metrics_of_real_ade20k_annotations(shared):
    folder = shared / "data" / "ade20k_sample"
    if not folder.is_dir():
        pytest.skip("needs the ADE20K sample")
    asked = ["mIoU", "mDice", "mFscore"]
    mean, of_all = metric_of(150, metric=asked), metric_of(150, nan_to_num=0)
    for number, path in enumerate(sorted((folder / "annotations").glob("*.png"))):
        ground_truth, predicted = by_file(path.parent, path.name), by_file(folder / "predictions_shifted", path.name)
        # 0 = not labelled; a prediction there counts nowhere, but has to be a class
        sample = map_sample(
            number, "semantic", torch.where(ground_truth == 0, 255, ground_truth - 1), (predicted - 1).clamp(min=0)
        )
        mean.process(None, [sample])
        of_all.process(None, [sample])
    metrics = {name.removeprefix("semantic/"): value for name, value in mean.evaluate(3).items()}
    stated = dict(mIoU=56.36, mAcc=66.19, mDice=67.09, mPrecision=69.83, mRecall=66.19)
    assert {name: round(100 * metrics[name], 2) for name in stated} == pytest.approx(stated, abs=0.02)
    assert metrics["aAcc"] == pytest.approx(0.890607, abs=5e-4)
    assert of_all.evaluate(3)["semantic/mIoU"] == pytest.approx(0.056359, abs=5e-6)


def test_the_metrics_of_made_up_predictions_on_camvid(shared):
    folder = shared / "data" / "camvid_third" / "labels" / "test"
    if not folder.is_dir():
        pytest.skip("needs CamVid's test labels")
    moved, rows = metric_of(11), metric_of(11)
    for path in sorted(folder.glob("*.png")):
        ground_truth = by_file(folder, path.name)
        found = np.pad(ground_truth.numpy(), ((4, 0), (7, 0)), mode="edge")[
            : ground_truth.shape[0], : ground_truth.shape[1]
        ]
        bands = torch.full_like(ground_truth, 3)
        bands[:90], bands[90:180] = 0, 1
        moved.process(
            None, [map_sample(path.stem, "semantic", ground_truth, torch.from_numpy(np.where(found == 255, 3, found)))]
        )
        rows.process(None, [map_sample(path.stem, "semantic", ground_truth, bands)])
    for metric, stated in ((moved, (88.7160, 61.5782, 71.3448)), (rows, (52.1311, 11.8259, 20.3070))):
        metrics = metric.evaluate(78)
        assert [round(100 * metrics[f"semantic/{n}"], 4) for n in ("aAcc", "mIoU", "mAcc")] == pytest.approx(
            stated, abs=1e-4
        )


def test_the_confusion_matrix_has_ground_truth_in_rows():
    ground_truth, predicted = torch.tensor([[0, 0, 1, 2, 255]]), torch.tensor([[0, 1, 1, 0, 2]])
    assert confusion_matrix(ground_truth, predicted, 3, "")[0].tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_the_confusion_matrix_is_exact_whatever_the_numbers_kind(kind):
    rng = np.random.default_rng(1)
    ground_truth, predicted = (rng.integers(0, 150, (61, 83)) for _ in range(2))
    ground_truth[rng.random(ground_truth.shape) < 0.1] = 255
    matrix = np.zeros((150, 150), np.int64)
    np.add.at(matrix, (ground_truth[ground_truth < 255], predicted[ground_truth < 255]), 1)
    maps = [torch.from_numpy(values).to(kind) for values in (ground_truth, predicted)]
    assert np.array_equal(confusion_matrix(*maps, 150, "")[0], matrix)


def test_more_pixels_than_floats_can_count_are_counted():
    pixels = 2 * EXACT + 3
    zeros = torch.zeros(1, dtype=torch.uint8).expand(pixels, 1)
    assert confusion_matrix(zeros, zeros, 2, "")[0].tolist() == [[pixels, 0], [0, 0]]


def test_semantic_classes_go_before_those_of_objects():
    metric = metric_of(1)
    metric.dataset_meta = {"classes": ("cup",), "semantic_classes": ("floor", "wall", "cup")}
    ground_truth = torch.tensor([[0, 1, 2]])
    metric.process(None, [map_sample(1, "semantic", ground_truth, ground_truth)])
    assert metric.evaluate(1)["semantic/mIoU"] == 1.0


def test_images_gathered_twice_count_once_and_two_processes_are_as_one():
    rng = np.random.default_rng(5)
    samples = [map_sample(n, "semantic", *drawn(rng, 6)) for n in range(5)]
    alone, first, second = metric_of(6), metric_of(6), metric_of(6)
    alone.process(None, samples)
    first.process(None, samples[:2])
    second.process(None, [*samples[2:], samples[0]])
    second.process(None, [samples[3]])  # again in one process
    first.results += second.results
    assert first.evaluate(5) == alone.evaluate(5)


def test_an_image_that_two_processes_counted_amid_others_is_named():
    first, second = metric_of(6), metric_of(6)
    samples = [map_sample(n, "semantic", *drawn(np.random.default_rng(n), 6)) for n in range(3)]
    first.process(None, samples[:2])
    second.process(None, [samples[0], samples[2]])
    first.results += second.results
    with pytest.raises(ConfigError, match=r"image 0.png was counted by two processes: take sampler=.*EvalSampler"):
        first.evaluate(3)


def test_what_is_kept_grows_neither_with_the_pictures_nor_with_their_number():
    metric = metric_of(4)
    for number, side in enumerate((8, 200, 9, 10)):
        ground_truth = torch.zeros(side, side, dtype=torch.int64)
        metric.process(None, [map_sample(number, "semantic", ground_truth, ground_truth)])
    (kept,) = metric.results
    assert kept.sums["matrix"].shape == kept.last[1]["matrix"].shape == (4, 4)
    assert kept.sums["matrix"].sum() == 8 * 8 + 200 * 200 + 9 * 9 and list(kept.images) == [0, 1, 2, 3]


def test_a_table_of_the_classes_is_logged(monkeypatch):
    metrics = {"IoU": np.array([0.5, np.nan]), "Acc": np.array([1, np.nan])}
    assert class_table(["a", "longer"], metrics, np.array([12, 0])).splitlines() == [
        "class          IoU         Acc        pixels",
        "a         0.500000    1.000000            12",
        "longer           -           -             0",
    ]
    lines = []
    monkeypatch.setattr("densevit.metrics.semantic.print_log", lambda text, logger: lines.append(text))
    metric = metric_of(2)
    metric.process(None, [map_sample(1, "semantic", torch.tensor([[0]]), torch.tensor([[0]]))])
    metric.evaluate(1)
    assert "of 1 images" in lines[0] and "mIoU         1.000000" in lines[0]
    assert lines[1].splitlines()[-1].split() == ["class", "1", "-", "-", "0"]


def test_the_matrix_is_written_and_predictions_are_too_in_the_datasets_values(tmp_path):
    metric = metric_of(3, matrix=str(tmp_path / "in" / "matrix.json"), out=str(tmp_path / "maps"))
    metric.dataset_meta["label_values"] = (7, 1, 33)
    ground_truth, predicted = torch.tensor([[0, 1, 255]]), torch.tensor([[0, 2, 2]])
    metric.process(None, [map_sample(5, "semantic", ground_truth, predicted)])
    metric.evaluate(1)
    written = json.loads((tmp_path / "in" / "matrix.json").read_text())
    assert written["matrix"] == [[1, 0, 0], [0, 0, 1], [0, 0, 0]] and written["classes"][2] == "class 2"
    assert by_file(tmp_path / "maps", "5.png").tolist() == [[7, 33, 33]]


def test_images_without_ground_truth_are_written_and_not_scored(tmp_path):
    sample = map_sample(5, "semantic", torch.zeros(2, 2).long(), torch.ones(2, 2).long())
    bare = {key: value for key, value in sample.items() if key != "gt_semantic"}
    metric = metric_of(3, out=str(tmp_path))
    metric.process(None, [bare])
    assert metric.evaluate(1) == {} and (by_file(tmp_path, "5.png") == 1).all()
    metric.process(None, [bare, dict(sample, img_id=6, img_path="/data/6.png")])
    assert metric.evaluate(2)["semantic/aAcc"] == 0
    metric.process(None, [dict(bare, img_id=8)])
    assert len(list(tmp_path.glob("5-*.png"))) == 1  # another image of the same name
    with pytest.raises(ConfigError, match=r"results.json: class maps are a folder"):
        metric_of(3, out=str(tmp_path / "results.json")).process(None, [bare])


def test_files_in_colors_hold_the_same_values(tmp_path):
    metric = metric_of(3, out=str(tmp_path), palette=True)
    metric.dataset_meta |= dict(palette=[(255, 0, 0), (0, 200, 0), (0, 0, 90)], label_values=(1, 2, 3))
    predicted = torch.tensor([[0, 1, 2]])
    metric.process(None, [map_sample(5, "semantic", predicted, predicted)])
    picture = Image.open(tmp_path / "5.png")
    assert picture.mode == "P" and np.array(picture).tolist() == [[1, 2, 3]]
    assert np.array(picture.convert("RGB")).tolist() == [[[255, 0, 0], [0, 200, 0], [0, 0, 90]]]
    del metric.dataset_meta["palette"]
    metric.writer = None
    with pytest.raises(ConfigError, match="states no colors"):
        metric.process(None, [map_sample(5, "semantic", predicted, predicted)])


def test_values_beyond_a_byte_are_written_in_two(tmp_path):
    metric = metric_of(2, out=str(tmp_path))
    metric.dataset_meta["label_values"] = (3, 1000)
    predicted = torch.tensor([[0, 1]])
    metric.process(None, [map_sample(5, "semantic", predicted, predicted)])
    assert by_file(tmp_path, "5.png").tolist() == [[3, 1000]]


@pytest.mark.parametrize("value", [4, 254, -1, 256])
def test_a_predicted_class_that_there_is_not_is_named_with_its_image(value):
    bad = torch.tensor([[0, value]])
    with pytest.raises(DataError, match=rf"prediction for /data/7.png has the class {value}[,;]"):
        metric_of(4).process(None, [map_sample(7, "semantic", torch.full_like(bad, 255), bad)])


@pytest.mark.parametrize("metric", ["mIoU", "mBF"])
@pytest.mark.parametrize("value", [4, 254, -1, 256])
def test_ground_truth_that_is_no_class_is_not_scored(value, metric, capsys):
    torch.manual_seed(0)
    ground_truth, predicted = torch.randint(0, 4, (2, 20, 30))
    results = []
    for ignored in (255, value):
        some = metric_of(4, metric=metric)
        some.process(None, [map_sample(7, "semantic", ground_truth.where(ground_truth != 2, ignored), predicted)])
        results.append(some.evaluate(1))
    assert results[0] == results[1] or str(results[0]) == str(results[1])


def test_mistakes_are_reported_in_a_sentence():
    maps = torch.zeros(4, 6, dtype=torch.int64)
    sample = map_sample(7, "semantic", maps, maps)
    with pytest.raises(ConfigError, match="knows no classes"):
        SemanticMetric().process(None, [sample])
    with pytest.raises(ConfigError, match="predicts none"):
        metric_of(2).process(None, [{k: v for k, v in sample.items() if k != "pred_semantic"}])
    with pytest.raises(ConfigError, match=r"/data/7.png has none; load it"):
        metric_of(2).process(None, [{k: v for k, v in sample.items() if k != "gt_semantic"}])
    resized = dict(sample, gt_semantic=torch.zeros(8, 12, dtype=torch.int64), img_shape=(8, 12))
    with pytest.raises(DataError, match=r"7.png: gt_semantic has 8 x 12 .* 4 x 6 .* keep the map's own size"):
        metric_of(2).process(None, [resized])
    metric = metric_of(2)
    metric.process(None, [map_sample(1, "semantic", torch.full((2, 2), 255), torch.zeros(2, 2).long())])
    with pytest.raises(DataError, match="none of the 1 images"):
        metric.evaluate(1)
    with pytest.raises(DataError, match=r"7.png and other.png have the same id 7"):
        metric.process(None, [sample, dict(sample, img_path="/data/other.png")])
    with pytest.raises(ConfigError, match=r"no metric 'mIou' \(nearest: 'mIoU'\)"):
        SemanticMetric(metric="mIou")
    metric = metric_of(256)
    with pytest.raises(ConfigError, match="up to 255 classes, and the dataset has 256"):
        metric.process(None, [sample])
