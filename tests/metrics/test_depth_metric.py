"""DepthMetric against loops over pixels, figures by hand and the reference."""

import math

import numpy as np
import pytest
import torch
from map_samples import map_sample
from parity_parts import read_case

from densevit.errors import ConfigError, DataError
from densevit.metrics import DepthMetric
from densevit.metrics.depth import FIGURES, depth_figures
from densevit.registry import METRICS


def by_loops(pairs, low: float, high: float) -> dict[str, float]:
    """The nine figures, image by image and pixel by pixel."""
    images = []
    for truth, predicted in pairs:
        rows = []
        for t, p in zip(truth.flatten().tolist(), predicted.flatten().tolist(), strict=True):
            if low < t <= high:
                p = min(max(p, low), high)
                d, ratio = math.log(p) - math.log(t), max(p / t, t / p)
                rows.append((abs(p - t) / t, (p - t) ** 2 / t, (p - t) ** 2, d * d, abs(math.log10(p / t)), d, ratio))
        if rows:
            n = len(rows)
            a, s, e, dd, ten, d = (sum(row[i] for row in rows) / n for i in range(6))
            deltas = [sum(row[6] < 1.25**k for row in rows) / n for k in (1, 2, 3)]
            images.append((a, s, math.sqrt(e), math.sqrt(dd), ten, math.sqrt(dd - d * d / 2), *deltas))
    return {f"depth/{key}": sum(image[i] for image in images) / len(images) for i, key in enumerate(FIGURES)}


def drawn(rng: np.random.Generator, size=(7, 9)) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth with holes and with pixels beyond 10 m; predictions beyond both limits too."""
    truth = rng.uniform(0.2, 13, size)
    predicted = truth * np.exp(rng.normal(0, 0.4, size))
    predicted[0, :2] = (-1, 50)
    truth[rng.random(size) < 0.2] = 0
    return torch.tensor(truth, dtype=torch.float32), torch.tensor(predicted, dtype=torch.float32)


@pytest.mark.parametrize("seed", range(3))
def test_loops_over_pixels_give_the_same_figures(seed):
    rng = np.random.default_rng(seed)
    pairs = [
        drawn(rng, size) for size in [(7, 9), (4, 12), (10, 5)]
    ]  # of unequal sizes: means of images, not of pixels
    metric = METRICS.build({"type": "DepthMetric"})
    for number, (truth, predicted) in enumerate(pairs):
        metric.process(None, [map_sample(number, "depth", truth, predicted, pad=(number, 2), flip=number == 1)])
    figures = metric.evaluate(3)
    assert list(figures) == [f"depth/{key}" for key in FIGURES]
    assert figures == pytest.approx(by_loops(pairs, 1e-3, 10.0), rel=1e-9)
    assert all(type(value) is float for value in figures.values())
    assert metric.results == []


def test_a_case_by_hand():
    truth, predicted = torch.tensor([[1.0, 4.0, 0.0]]), torch.tensor([[2.0, 2.0, 7.0]])
    metric = DepthMetric()
    metric.process(None, [map_sample(1, "depth", truth, predicted)])
    figures = metric.evaluate(1)
    assert figures == pytest.approx({
        "depth/abs_rel": (1 + 0.5) / 2,
        "depth/sq_rel": (1 + 1) / 2,
        "depth/rmse": math.sqrt((1 + 4) / 2),
        "depth/rmse_log": math.log(2),
        "depth/log10": math.log10(2),
        "depth/silog": math.log(2),  # one twice too far, one twice too near: the mean is none
        "depth/delta1": 0.0, "depth/delta2": 0.0, "depth/delta3": 0.0,
    })  # fmt: skip


def test_a_perfect_prediction_has_no_error_and_full_accuracy():
    truth, _ = drawn(np.random.default_rng(1))
    metric = DepthMetric()
    metric.process(None, [map_sample(1, "depth", truth, truth.clone(), pad=(3, 5))])
    figures = metric.evaluate(1)
    assert [figures[f"depth/{key}"] for key in FIGURES] == [0.0] * 6 + [1.0] * 3


def test_a_common_factor_leaves_the_half_of_it_in_silog():
    truth = torch.rand(50, dtype=torch.float64) + 0.5
    figures = dict(zip(FIGURES, depth_figures(truth, 1.3 * truth).tolist(), strict=True))
    assert figures["rmse_log"] == pytest.approx(math.log(1.3))
    assert figures["silog"] == pytest.approx(math.log(1.3) / math.sqrt(2))
    assert (figures["delta1"], figures["delta2"]) == (0.0, 1.0)


def test_the_range_leaves_its_lower_end_out_and_clamps_predictions():
    truth = torch.tensor([[1.0, 2.0, 5.0, 5.1]])
    predicted = torch.tensor([[3.0, 0.1, 99.0, 3.0]])  # of the two that count: 0.1 -> 1, 99 -> 5
    metric = DepthMetric(min_depth=1.0, max_depth=5.0)
    metric.process(None, [map_sample(1, "depth", truth, predicted)])
    assert metric.evaluate(1)["depth/rmse"] == pytest.approx(math.sqrt(1 / 2))


def test_the_reference_figures(shared):
    case = read_case(shared / "parity", "mmseg_depth_metric")
    rows, columns = torch.arange(480)[:, None] / 480, torch.arange(640)[None] / 640
    spread = 0.05 + (rows - 0.4).abs() + 0.5 * columns
    metric = DepthMetric(min_depth=1e-6, max_depth=1e6)  # as good as the reference's none
    counted = []
    for number in range(2):
        p = torch.exp(0.6 * case.inputs[f"pred_{number}"] + 1)
        g = case.inputs[f"gt_{number}"]
        g = torch.where(g > -0.4, p * torch.exp(0.4 * spread * g), 0)
        counted.append(int((g > 0).sum()))
        metric.process(None, [map_sample(number, "depth", g, p)])
    figures = metric.evaluate(2)
    ours = torch.tensor([figures[f"depth/{key}"] for key in FIGURES])
    assert case.error("plain_pixels", torch.tensor(counted)) == 0
    assert case.error("plain_d", ours[6:]) < 1e-4
    assert case.error("plain_err", ours[:6]) < 1e-4


def test_an_image_without_truth_is_left_out_and_counted_in_the_log(monkeypatch):
    lines = []
    monkeypatch.setattr("densevit.metrics.depth.print_log", lambda text, logger: lines.append(text))
    truth, predicted = drawn(np.random.default_rng(2))
    with_hole, without = DepthMetric(max_depth=80), DepthMetric(max_depth=80)
    without.process(None, [map_sample(1, "depth", truth, predicted)])
    with_hole.process(None, [map_sample(1, "depth", truth, predicted)])
    with_hole.process(None, [map_sample(2, "depth", torch.zeros_like(truth), predicted)])
    assert with_hole.evaluate(2) == without.evaluate(1)
    assert "Depth of 1 images (1 without a pixel in range left out)" in lines[0]
    assert "(0.001, 80] m" in lines[0] and "clamped" in lines[0] and "then over images" in lines[0]


def test_images_gathered_twice_count_once_and_two_processes_are_as_one():
    rng = np.random.default_rng(5)
    samples = [map_sample(n, "depth", *drawn(rng)) for n in range(5)]
    alone, first, second = DepthMetric(), DepthMetric(), DepthMetric()
    alone.process(None, samples)
    first.process(None, samples[:2])
    second.process(None, [*samples[2:], samples[0]])
    first.results += second.results
    assert first.evaluate(5) == alone.evaluate(5)


def test_mistakes_are_told_in_a_sentence():
    for low, high in [(0, 10), (5, 5), (-1, 3)]:
        with pytest.raises(ConfigError, match="0 < min_depth < max_depth"):
            DepthMetric(min_depth=low, max_depth=high)
    truth, predicted = drawn(np.random.default_rng(2))
    sample = map_sample(7, "depth", truth, predicted)
    with pytest.raises(ConfigError, match="predicts none"):
        DepthMetric().process(None, [{k: v for k, v in sample.items() if k != "pred_depth"}])
    with pytest.raises(ConfigError, match=r"/data/7.png has none; load it"):
        DepthMetric().process(None, [{k: v for k, v in sample.items() if k != "gt_depth"}])
    with pytest.raises(DataError, match=r"7.png: gt_depth has 14 x 18 .* 7 x 9 .* keep the map's own size"):
        DepthMetric().process(None, [dict(sample, gt_depth=torch.ones(14, 18), img_shape=(14, 18))])
    with pytest.raises(DataError, match=r"/data/7.png is not a number everywhere"):
        DepthMetric().process(None, [dict(sample, pred_depth=torch.full_like(predicted, torch.nan))])
    metric = DepthMetric()
    metric.process(None, [dict(sample, gt_depth=1000 * truth)])  # millimetres
    with pytest.raises(DataError, match=r"none of the 1 images .* \(0.001, 10\] m; check the unit"):
        metric.evaluate(1)
