"""SemanticMetric against loops over pixels, figures by hand and the reference."""

import numpy as np
import pytest
import torch
from map_samples import map_sample
from parity_parts import read_case

from densevit.errors import ConfigError, DataError
from densevit.metrics import SemanticMetric
from densevit.metrics.semantic import class_table, confusion_matrix
from densevit.registry import METRICS


def metric_of(classes: int) -> SemanticMetric:
    metric = METRICS.build({"type": "SemanticMetric"})
    metric.dataset_meta = {"classes": tuple(f"class {k}" for k in range(classes))}
    return metric


def by_loops(pairs, classes: int) -> dict[str, float]:
    """The three figures, pixel by pixel and class by class."""
    pixels = [
        (int(t), int(p))
        for truth, predicted in pairs
        for t, p in zip(truth.flatten(), predicted.flatten(), strict=True)
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
    """Truth with holes and a prediction that is often right; neither holds the last class, truth not the first."""
    truth = rng.integers(1, classes - 1, size)
    predicted = np.where(rng.random(size) < 0.6, truth, rng.integers(0, classes - 1, size))
    truth[rng.random(size) < 0.15] = 255
    return torch.from_numpy(truth), torch.from_numpy(predicted)


def test_a_case_by_hand():
    truth = torch.tensor([[0, 0, 1], [1, 255, 1]])
    predicted = torch.tensor([[0, 1, 1], [1, 2, 0]])  # class 0: 1 of 3, class 1: 2 of 4, the 2 is on a hole
    metric = metric_of(4)
    metric.process(None, [map_sample(1, "semantic", truth, predicted)])
    figures = metric.evaluate(1)
    assert figures == pytest.approx(
        {"semantic/mIoU": 5 / 12, "semantic/mAcc": (1 / 2 + 2 / 3) / 2, "semantic/aAcc": 0.6}
    )
    assert all(type(value) is float for value in figures.values())
    assert metric.results == []


@pytest.mark.parametrize("seed", range(3))
def test_loops_over_pixels_give_the_same_figures(seed):
    rng = np.random.default_rng(seed)
    pairs = [drawn(rng, 6, size) for size in [(7, 9), (4, 12), (10, 5)]]
    metric = metric_of(6)
    for number, (truth, predicted) in enumerate(pairs):
        sample = map_sample(number, "semantic", truth, predicted, pad=(number, 2), flip=number == 1)
        metric.process(None, [sample])
    assert metric.evaluate(3) == pytest.approx(by_loops(pairs, 6), abs=1e-12)


def test_a_perfect_prediction_is_one_whatever_lies_on_the_holes():
    truth, noise = drawn(np.random.default_rng(3), 5)
    metric = metric_of(5)
    metric.process(None, [map_sample(1, "semantic", truth, torch.where(truth == 255, noise, truth), pad=(5, 3))])
    assert metric.evaluate(1) == {"semantic/mIoU": 1.0, "semantic/mAcc": 1.0, "semantic/aAcc": 1.0}


def test_a_class_that_is_predicted_but_not_there_has_an_iou_of_zero_and_no_accuracy():
    metric = metric_of(3)
    metric.process(None, [map_sample(1, "semantic", torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))])
    assert metric.evaluate(1) == {"semantic/mIoU": 0.25, "semantic/mAcc": 0.5, "semantic/aAcc": 0.5}


def test_the_reference_figures(shared):
    case = read_case(shared / "parity", "mmseg_iou_metric")
    metric = metric_of(case.model["num_classes"])
    for number, (truth, predicted) in enumerate(zip(case.inputs["label"], case.inputs["pred"], strict=True)):
        metric.process(None, [map_sample(number, "semantic", truth.long(), predicted.long())])
    figures = metric.evaluate(3)
    ours = torch.tensor([100 * figures[f"semantic/{key}"] for key in ("aAcc", "mIoU", "mAcc")])
    assert case.error("miou", ours) < 1e-4


def test_the_confusion_matrix_has_truth_in_rows():
    truth, predicted = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0])
    assert confusion_matrix(truth, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_pixel_classes_go_before_those_of_objects():
    metric = metric_of(1)
    metric.dataset_meta = {"classes": ("cup",), "semantic_classes": ("floor", "wall", "cup")}
    truth = torch.tensor([[0, 1, 2]])
    metric.process(None, [map_sample(1, "semantic", truth, truth)])
    assert metric.evaluate(1)["semantic/mIoU"] == 1.0


def test_images_gathered_twice_count_once_and_two_processes_are_as_one():
    rng = np.random.default_rng(5)
    samples = [map_sample(n, "semantic", *drawn(rng, 6)) for n in range(5)]
    alone, first, second = metric_of(6), metric_of(6), metric_of(6)
    alone.process(None, samples)
    first.process(None, samples[:2])
    second.process(None, [*samples[2:], samples[0]])
    first.results += second.results
    assert first.evaluate(5) == alone.evaluate(5)


def test_what_is_kept_does_not_grow_with_the_picture():
    metric = metric_of(4)
    for number, side in enumerate((8, 200)):
        truth = torch.zeros(side, side, dtype=torch.int64)
        metric.process(None, [map_sample(number, "semantic", truth, truth)])
    assert [record["areas"].shape for record in metric.results] == [(3, 4), (3, 4)]


def test_a_table_of_the_classes_is_logged(monkeypatch):
    table = class_table(["a", "longer"], np.array([0.5, np.nan]), np.array([1, np.nan]), np.array([12, 0]))
    assert table.splitlines() == [
        "class          IoU    accuracy        pixels",
        "a         0.500000    1.000000            12",
        "longer           -           -             0",
    ]
    lines = []
    monkeypatch.setattr("densevit.metrics.semantic.print_log", lambda text, logger: lines.append(text))
    metric = metric_of(2)
    metric.process(None, [map_sample(1, "semantic", torch.tensor([[0]]), torch.tensor([[0]]))])
    metric.evaluate(1)
    assert "of 1 images" in lines[0] and "mIoU     1.000000" in lines[0]
    assert lines[1].splitlines()[-1].split() == ["class", "1", "-", "-", "0"]


@pytest.mark.parametrize("value", [4, 254, -1])
def test_a_class_that_there_is_not_is_named_with_its_image(value):
    good, bad = torch.tensor([[0, 3]]), torch.tensor([[0, value]])
    with pytest.raises(DataError, match=rf"gt_semantic of /data/7.png has the class {value}, where 0 to 3"):
        metric_of(4).process(None, [map_sample(7, "semantic", bad, good)])
    with pytest.raises(DataError, match=rf"prediction for /data/7.png has the class {value}, where 0 to 3"):
        metric_of(4).process(None, [map_sample(7, "semantic", torch.full_like(bad, 255), bad)])


def test_mistakes_are_told_in_a_sentence():
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
    metric.process(None, [sample, dict(sample, img_path="/data/other.png")])
    with pytest.raises(DataError, match="have the same id 7"):
        metric.evaluate(2)
