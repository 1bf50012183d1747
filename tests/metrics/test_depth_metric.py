"""DepthMetric against loops over pixels, metrics by hand and the reference."""

import math

import cv2
import numpy as np
import pytest
import torch
from map_samples import map_sample
from parity.case import read_case

from densevit.errors import ConfigError, DataError
from densevit.metrics import DepthMetric
from densevit.metrics.depth import METRIC_NAMES, depth_metrics
from densevit.ops.depth_crops import CROPS
from densevit.registry import METRICS


def by_loops(pairs, low: float, high: float) -> dict[str, float]:
    """The metrics, image by image and pixel by pixel."""
    images = []
    for ground_truth, predicted in pairs:
        rows = []
        for t, p in zip(ground_truth.flatten().tolist(), predicted.flatten().tolist(), strict=True):
            if low < t < high:
                p = min(max(p, low), high)
                d, ratio = math.log(p) - math.log(t), max(p / t, t / p)
                rows.append((abs(p - t) / t, (p - t) ** 2 / t, (p - t) ** 2, d * d, abs(math.log10(p / t)), d, ratio))
        if rows:
            n = len(rows)
            a, s, e, dd, ten, d = (sum(row[i] for row in rows) / n for i in range(6))
            deltas = [sum(row[6] < 1.25**k for row in rows) / n for k in (1, 2, 3)]
            images.append((a, s, math.sqrt(e), math.sqrt(dd), ten))
            images[-1] += (math.sqrt(dd - d * d / 2), 100 * math.sqrt(dd - d * d), *deltas)
    return {f"depth/{key}": sum(image[i] for image in images) / len(images) for i, key in enumerate(METRIC_NAMES)}


def drawn(rng: np.random.Generator, size=(7, 9)) -> tuple[torch.Tensor, torch.Tensor]:
    """Ground truth with holes and with pixels beyond 10 m; predictions beyond both limits too."""
    ground_truth = rng.uniform(0.2, 13, size)
    predicted = ground_truth * np.exp(rng.normal(0, 0.4, size))
    predicted[0, :2] = (-1, 50)
    ground_truth[rng.random(size) < 0.2] = 0
    return torch.tensor(ground_truth, dtype=torch.float32), torch.tensor(predicted, dtype=torch.float32)


@pytest.mark.parametrize("seed", range(3))
def test_loops_over_pixels_give_the_same_metrics(seed):
    rng = np.random.default_rng(seed)
    pairs = [
        drawn(rng, size) for size in [(7, 9), (4, 12), (10, 5)]
    ]  # of unequal sizes: means of images, not of pixels
    metric = METRICS.build({"type": "DepthMetric"})
    for number, (ground_truth, predicted) in enumerate(pairs):
        metric.process(None, [map_sample(number, "depth", ground_truth, predicted, pad=(number, 2), flip=number == 1)])
    metrics = metric.evaluate(3)
    assert list(metrics) == [f"depth/{key}" for key in METRIC_NAMES]
    assert metrics == pytest.approx(by_loops(pairs, 1e-3, 10.0), rel=1e-9)
    assert all(type(value) is float for value in metrics.values())
    assert metric.results == []


def test_a_case_by_hand():
    ground_truth, predicted = torch.tensor([[1.0, 4.0, 0.0]]), torch.tensor([[2.0, 2.0, 7.0]])
    metric = DepthMetric()
    metric.process(None, [map_sample(1, "depth", ground_truth, predicted)])
    metrics = metric.evaluate(1)
    assert metrics == pytest.approx({
        "depth/abs_rel": (1 + 0.5) / 2,
        "depth/sq_rel": (1 + 1) / 2,
        "depth/rmse": math.sqrt((1 + 4) / 2),
        "depth/rmse_log": math.log(2),
        "depth/log10": math.log10(2),
        "depth/silog": math.log(2),  # one twice too far, one twice too near: the mean is none
        "depth/silog_kitti": 100 * math.log(2),
        "depth/delta1": 0.0, "depth/delta2": 0.0, "depth/delta3": 0.0,
    })  # fmt: skip


def test_a_perfect_prediction_has_no_error_and_full_accuracy():
    ground_truth, _ = drawn(np.random.default_rng(1))
    metric = DepthMetric()
    metric.process(None, [map_sample(1, "depth", ground_truth, ground_truth.clone(), pad=(3, 5))])
    metrics = metric.evaluate(1)
    assert [metrics[f"depth/{key}"] for key in METRIC_NAMES] == [0.0] * 7 + [1.0] * 3


def test_a_common_factor_leaves_the_half_of_it_in_one_silog_and_nothing_in_the_other():
    ground_truth = torch.rand(50, dtype=torch.float64) + 0.5
    metrics = dict(zip(METRIC_NAMES, depth_metrics(ground_truth, 1.3 * ground_truth).tolist(), strict=True))
    assert metrics["rmse_log"] == pytest.approx(math.log(1.3))
    assert metrics["silog"] == pytest.approx(math.log(1.3) / math.sqrt(2))
    assert metrics["silog_kitti"] < 1e-4
    assert (metrics["delta1"], metrics["delta2"]) == (0.0, 1.0)


def test_the_range_leaves_both_ends_out_and_clamps_predictions_where_asked_to():
    ground_truth = torch.tensor([[1.0, 2.0, 4.0, 5.0, 5.1]])
    predicted = torch.tensor([[3.0, 0.1, 99.0, 3.0, 3.0]])  # of the two that count: 0.1 -> 1, 99 -> 5
    for clamp, rmse in ((True, math.sqrt((1 + 1) / 2)), (False, math.sqrt((1.9**2 + 95**2) / 2))):
        metric = DepthMetric(min_depth=1.0, max_depth=5.0, clamp=clamp)
        metric.process(None, [map_sample(1, "depth", ground_truth, predicted)])
        assert metric.evaluate(1)["depth/rmse"] == pytest.approx(rmse)


REFERENCE = {
    "plain": dict(min_depth=0.0, max_depth=math.inf),
    "range": dict(min_depth=0.8, max_depth=8.0),
    "nyu_crop": dict(min_depth=0.8, max_depth=8.0, crop="nyu_eigen"),
    "range_first": dict(min_depth=0.8, max_depth=8.0),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_metrics(shared, name):
    case = read_case(shared / "parity", "mmseg_depth_metric")
    assert {output.rsplit("_", 1)[0] for output in case.outputs} == set(REFERENCE)
    settings, crop = REFERENCE[name], (slice(45, 471), slice(41, 601)) if name == "nyu_crop" else ...
    rows, columns = torch.arange(480)[:, None] / 480, torch.arange(640)[None] / 640
    spread = 0.05 + (rows - 0.4).abs() + 0.5 * columns
    metric, counted = DepthMetric(clamp=False, **settings), []
    for number in range(1 if name == "range_first" else 2):
        p = torch.exp(0.6 * case.inputs[f"pred_{number}"] + 1)
        g = case.inputs[f"gt_{number}"]
        g = torch.where(g > -0.4, p * torch.exp(0.4 * spread * g), 0)
        counted.append(int(((g > settings["min_depth"]) & (g < settings["max_depth"]))[crop].sum()))
        metric.process(None, [map_sample(number, "depth", g, p)])
    metrics = metric.evaluate(len(counted))
    errors = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
    assert case.error(f"{name}_pixels", torch.tensor(counted)) == 0
    for output, keys in (("d", ("delta1", "delta2", "delta3")), ("err", errors)):
        assert case.error(f"{name}_{output}", torch.tensor([metrics[f"depth/{key}"] for key in keys])) < 1e-5


def real_metrics(folder, size: tuple[int, int] | None, formula, **settings) -> dict[str, float]:
    """Metrics of a made-up prediction, `formula(row, column, height, width)`, on the depth maps of a folder."""
    metric, scale = DepthMetric(**settings), 256 if "kitti" in str(folder) else 1000
    for number, path in enumerate(sorted((folder / "depth").glob("*.png"))):
        ground_truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / scale
        if size is None or ground_truth.shape == size:
            rows, columns = np.mgrid[: ground_truth.shape[0], : ground_truth.shape[1]]
            predicted = formula(rows / (ground_truth.shape[0] - 1), 2 * np.pi * columns / (ground_truth.shape[1] - 1))
            sample = map_sample(
                number, "depth", torch.tensor(ground_truth), torch.tensor(predicted, dtype=torch.float32)
            )
            metric.process(None, [sample])
    return metric.evaluate(7)


# abs_rel, sq_rel, rmse, rmse_log, log10, silog of BTS (x 100), delta 1 to 3, by BTS's compute_errors
NYU_WHOLE = (0.400643, 0.655750, 1.439802, 0.515226, 0.187763, 45.866838, 0.290883, 0.552702, 0.777369)
NYU_EIGEN = (0.362838, 0.572551, 1.412292, 0.479640, 0.175277, 40.734613, 0.297235, 0.590580, 0.824940)
KITTI_WHOLE = (0.540738, 5.791490, 9.526871, 0.485213, 0.177257, 38.792679, 0.328162, 0.595190, 0.827250)
KITTI_GARG = (0.499975, 4.866116, 9.239406, 0.466011, 0.169923, 37.874046, 0.338495, 0.609052, 0.844423)
KITTI_EIGEN = (0.519214, 5.680125, 9.896340, 0.475140, 0.174137, 38.379345, 0.331262, 0.609921, 0.838749)
NO_SILOG = [key for key in METRIC_NAMES if key != "silog"]


@pytest.mark.parametrize(
    ("name", "size", "crop", "expected", "silog"),
    [
        ("nyu_sample", None, None, NYU_WHOLE, 0.489140),
        ("nyu_sample", (480, 640), "nyu_eigen", NYU_EIGEN, 0.446331),
        ("kitti_sample", None, None, KITTI_WHOLE, None),
        ("kitti_sample", None, "garg", KITTI_GARG, None),
        ("kitti_sample", None, "eigen", KITTI_EIGEN, None),
    ],
)
@pytest.mark.parametrize("clamp", [True, False])
def test_real_depth_maps_give_the_metrics_of_bts_and_mmsegmentation(shared, name, size, crop, expected, silog, clamp):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    top, wave = (10, 0.5) if name == "nyu_sample" else (80, 4)

    def formula(row, turn):
        return top * (0.5 - 0.4 * row) + wave * np.sin(turn)

    found = real_metrics(folder, size, formula, max_depth=top, crop=crop, clamp=clamp)
    assert [found[f"depth/{key}"] for key in NO_SILOG] == pytest.approx(expected, abs=1e-5)
    assert silog is None or found["depth/silog"] == pytest.approx(silog, abs=1e-5)


@pytest.mark.parametrize(
    ("crop", "size", "window"),
    [
        ("nyu_eigen", (480, 640), (45, 471, 41, 601)),
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("kb_garg", (375, 1242), (23 + 143, 23 + 349, 13 + 43, 13 + 1172)),
        ("kb_eigen", (370, 1224), (18 + 117, 18 + 321, 4 + 43, 4 + 1172)),
    ],
)
def test_a_crop_counts_the_pixels_within_it_alone(crop, size, window):
    top, bottom, left, right = window
    assert CROPS[crop](*size) == window
    ground_truth = torch.full(size, 4.0)
    ground_truth[top:bottom, left:right] = 2.0
    metric = DepthMetric(crop=crop)
    metric.process(None, [map_sample(1, "depth", ground_truth, torch.full(size, 2.0))])
    assert metric.evaluate(1)["depth/abs_rel"] == 0
    ground_truth[top, left] = ground_truth[bottom - 1, right - 1] = 4.0
    metric.process(None, [map_sample(1, "depth", ground_truth, torch.full(size, 2.0))])
    assert metric.evaluate(1)["depth/abs_rel"] == pytest.approx(2 * 0.5 / ((bottom - top) * (right - left)))


@pytest.mark.parametrize("relative", [False, True])
def test_least_squares_finds_scale_and_shift_of_each_image(relative):
    rng = np.random.default_rng(3)
    metric, plain = (DepthMetric(align=align, max_depth=20) for align in ("least_squares", None))
    for number in range(3):
        ground_truth, _ = drawn(rng)
        known = torch.where(ground_truth > 0, ground_truth, 1)
        exact = (1 / known if relative else known) * (number + 0.3) - number
        sample = map_sample(number, "depth", ground_truth, exact)
        metric.process(None, [{**sample, "depth_kind": "relative" if relative else "metric"}])
        plain.process(None, [sample])
    metrics = metric.evaluate(3)
    assert metrics["depth/abs_rel"] < 1e-5 < plain.evaluate(3)["depth/abs_rel"]
    assert metrics["depth/delta1"] == 1


@pytest.mark.parametrize("relative", [False, True])
def test_alignments_are_those_of_numpy(relative):
    ground_truth, predicted = drawn(np.random.default_rng(4), (9, 11))
    predicted = predicted.clamp(min=0.1)
    sample = {**map_sample(1, "depth", ground_truth, predicted), "depth_kind": "relative" if relative else "metric"}
    counted = ((ground_truth > 1e-3) & (ground_truth < 10)).numpy()
    t, p = ground_truth.double().numpy()[counted], predicted.double().numpy()[counted]
    (scale, shift), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), 1 / t if relative else t, rcond=None)
    fitted = scale * p + shift
    fitted = 1 / np.maximum(fitted, 0.1) if relative else fitted
    depth = 1 / p if relative else p
    for align, found in (("least_squares", fitted), ("median", depth * np.median(t) / np.median(depth))):
        found = np.clip(found, 1e-3, 10)
        metric = DepthMetric(align=align)
        metric.process(None, [sample])
        assert metric.evaluate(1)["depth/abs_rel"] == pytest.approx((np.abs(found - t) / t).mean(), rel=1e-9), align


def test_relative_depth_needs_an_alignment():
    ground_truth, predicted = drawn(np.random.default_rng(2))
    sample = {**map_sample(7, "depth", ground_truth, predicted), "depth_kind": "relative"}
    with pytest.raises(ConfigError, match=r"relative depth, which is in no unit: set align='least_squares'"):
        DepthMetric().process(None, [sample])


def test_the_protocol_stands_beside_the_metrics(monkeypatch):
    lines = []
    monkeypatch.setattr("densevit.metrics.depth.print_log", lambda text, logger: lines.append(text))
    ground_truth, predicted = torch.full((480, 640), 3.0), torch.full((480, 640), 0.4)
    sample = {**map_sample(1, "depth", ground_truth, predicted), "depth_kind": "relative"}
    metric = DepthMetric(max_depth=80, crop="nyu_eigen", align="median", clamp=False)
    metric.process({"data_samples": [[sample], [sample], [{**sample, "flip": True}]]}, [sample])
    metric.evaluate(1)
    for part in (
        *("relative depth", "crop nyu_eigen", "ground truth in (0.001, 80) m", "predictions not clamped"),
        *("median of each image aligned to its ground truth", "mean of 2 views, flip", "then over images"),
        *("silog = sqrt(mean d^2 - (mean d)^2 / 2)", "silog_kitti = 100 sqrt(mean d^2 - (mean d)^2)"),
    ):
        assert part in lines[0], part
    metric = DepthMetric(align="least_squares")
    metric.process({"data_samples": [sample]}, [{**sample, "depth_kind": "metric"}])
    metric.evaluate(1)
    for part in ("metric depth", "crop none", "clamped to it", "scale and shift of depth fitted", "one view, no flip"):
        assert part in lines[1], part


def test_an_image_without_ground_truth_is_left_out_and_counted_in_the_log(monkeypatch):
    lines = []
    monkeypatch.setattr("densevit.metrics.depth.print_log", lambda text, logger: lines.append(text))
    ground_truth, predicted = drawn(np.random.default_rng(2))
    with_hole, without = DepthMetric(max_depth=80), DepthMetric(max_depth=80)
    without.process(None, [map_sample(1, "depth", ground_truth, predicted)])
    with_hole.process(None, [map_sample(1, "depth", ground_truth, predicted)])
    with_hole.process(None, [map_sample(2, "depth", torch.zeros_like(ground_truth), predicted)])
    assert with_hole.evaluate(2) == without.evaluate(1)
    assert "Depth of 1 images (1 without a pixel in range left out)" in lines[0]
    assert "(0.001, 80) m" in lines[0] and "clamped" in lines[0] and "then over images" in lines[0]


def test_images_gathered_twice_count_once_and_two_processes_are_as_one():
    rng = np.random.default_rng(5)
    samples = [map_sample(n, "depth", *drawn(rng)) for n in range(5)]
    alone, first, second = DepthMetric(), DepthMetric(), DepthMetric()
    alone.process(None, samples)
    first.process(None, samples[:2])
    second.process(None, [*samples[2:], samples[0]])
    first.results += second.results
    assert first.evaluate(5) == alone.evaluate(5)


def test_mistakes_are_reported_in_a_sentence():
    for low, high in [(0, 10), (5, 5), (-1, 3)]:
        with pytest.raises(ConfigError, match="0 < min_depth < max_depth"):
            DepthMetric(min_depth=low, max_depth=high)
    with pytest.raises(ConfigError, match=r"no crop='nyu' \(nearest: 'nyu_eigen'\): choose from None, nyu_eigen"):
        DepthMetric(crop="nyu")
    with pytest.raises(ConfigError, match=r"no align='mean'.*: choose from None, median, least_squares"):
        DepthMetric(align="mean")
    ground_truth, predicted = drawn(np.random.default_rng(2))
    sample = map_sample(7, "depth", ground_truth, predicted)
    for crop in ("nyu_eigen", "kb_garg"):
        with pytest.raises(DataError, match=rf"7.png is 9x7 pixels, which the crop '{crop}' of DepthMetric does not"):
            DepthMetric(crop=crop).process(None, [sample])
    with pytest.raises(
        DataError, match=r"1 pixels of .*7.png have ground truth and no predicted depth above 0: set clamp"
    ):
        DepthMetric(clamp=False).process(
            None, [dict(sample, pred_depth=predicted.clamp(min=-1), gt_depth=ground_truth + 1)]
        )
    with pytest.raises(ConfigError, match="predicts none"):
        DepthMetric().process(None, [{k: v for k, v in sample.items() if k != "pred_depth"}])
    with pytest.raises(ConfigError, match=r"/data/7.png has none; load it"):
        DepthMetric().process(None, [{k: v for k, v in sample.items() if k != "gt_depth"}])
    with pytest.raises(DataError, match=r"7.png: gt_depth has 14 x 18 .* 7 x 9 .* keep the map's own size"):
        DepthMetric().process(None, [dict(sample, gt_depth=torch.ones(14, 18), img_shape=(14, 18))])
    with pytest.raises(DataError, match=r"/data/7.png is not a number everywhere"):
        DepthMetric().process(None, [dict(sample, pred_depth=torch.full_like(predicted, torch.nan))])
    metric = DepthMetric()
    metric.process(None, [dict(sample, gt_depth=1000 * ground_truth)])  # millimeters
    with pytest.raises(DataError, match=r"none of the 1 images .* \(0.001, 10\) m; check the unit"):
        metric.evaluate(1)


def test_what_the_model_cannot_predict_is_not_scored_and_the_protocol_states_it():
    ground_truth = torch.tensor([[1.0, 5.0, 9.0, 30.0, 655.0]])
    predicted = torch.tensor([[1.5, 4.0, 9.0, 10.0, 10.0]])
    sample = {**map_sample(1, "depth", ground_truth, predicted), "depth_range": (2.0, 10.0)}
    metric = DepthMetric(max_depth=1000.0)
    metric.process(None, [sample])
    within = DepthMetric(max_depth=1000.0)
    within.process(None, [map_sample(1, "depth", ground_truth[:, 1:3], predicted[:, 1:3])])
    assert metric.evaluate(1) == within.evaluate(1)
    assert "ground truth in (0.001, 1000) m, of it what the model can predict, [2, 10] m;" in metric.protocol(
        bounds=(2.0, 10.0)
    )
    assert "ground truth in (0.001, 1000) m;" in metric.protocol(bounds=(0.0, 2000.0))
    metric.process(
        None, [{**map_sample(1, "depth", ground_truth[:, 3:], predicted[:, 3:]), "depth_range": (2.0, 10.0)}]
    )
    with pytest.raises(
        DataError, match=r"true depth in \(0.001, 1000\) m, of it what the model can predict, \[2, 10\] m"
    ):
        metric.evaluate(1)
