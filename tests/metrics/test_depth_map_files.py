"""Predicted depth as files: the dataset's unit and names, and test sets without ground truth."""

import cv2
import numpy as np
import pytest
import torch
from map_samples import map_sample

from densevit.errors import ConfigError
from densevit.metrics.depth import DepthMetric


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def some_map(size=(7, 9), low=0.5, high=9.5):
    return torch.from_numpy(np.random.default_rng(0).uniform(low, high, size).astype(np.float32))


@pytest.mark.parametrize(("stated", "per_meter"), [(None, 1000), (1.0, 1000), (256.0, 256), (5000.0, 5000)])
def test_files_are_in_the_datasets_unit_under_the_ids_of_its_images(tmp_path, stated, per_meter):
    ground_truth, predicted = some_map(), some_map(low=1)
    metric = DepthMetric(out=str(tmp_path / "maps"))
    metric.dataset_meta = {"depth_scale": stated}
    sample = map_sample(7, "depth", ground_truth, predicted)
    metric.process(None, [sample, dict(sample, img_id="drive_0001/image_02/0000000005")])
    for name in ("7.png", "drive_0001/image_02/0000000005.png"):
        written = read(tmp_path / "maps" / name)
        assert written.dtype == np.uint16
        np.testing.assert_allclose(written / per_meter, predicted, atol=0.501 / per_meter)
    plain = DepthMetric()
    plain.process(None, [sample, dict(sample, img_id=8)])
    assert metric.evaluate(2) == plain.evaluate(2)


def test_images_without_ground_truth_are_written_and_not_scored(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("densevit.metrics.depth.print_log", lambda text, logger: lines.append(text))
    metric = DepthMetric(out=str(tmp_path / "maps"))
    sample = map_sample(7, "depth", some_map(), 10 * some_map())
    metric.process(None, [{key: value for key, value in sample.items() if key != "gt_depth"}])
    assert metric.evaluate(1) == {} and read(tmp_path / "maps" / "7.png").shape == (7, 9)
    cut = int((10 * some_map() > 65.5355).sum())
    assert cut and f"meters = value / 1000, 0 = none; {cut} pixels are farther than 65.535 m" in lines[0]
    assert "nothing scored" in lines[1]


def test_relative_depth_is_stretched_and_said_to_be_relative(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("densevit.metrics.depth.print_log", lambda text, logger: lines.append(text))
    metric = DepthMetric(out=str(tmp_path / "maps"), align="least_squares")
    ground_truth = some_map()
    metric.process(None, [dict(map_sample(7, "depth", ground_truth, 3 / ground_truth - 1), depth_kind="relative")])
    assert metric.evaluate(1)["depth/abs_rel"] < 1e-4
    written = read(tmp_path / "maps" / "7.png")
    assert (written.min(), written.max()) == (1, 65535)
    assert written.argmax() == ground_truth.numpy().argmin() and "relative depth" in lines[0]


def test_a_file_in_place_of_a_folder_is_refused_and_metrics_outlive_a_folder_that_cannot_be_made(tmp_path):
    with pytest.raises(ConfigError, match="--out"):
        DepthMetric(out=str(tmp_path / "results.json")).process(None, [map_sample(7, "depth", some_map(), some_map())])
    (tmp_path / "file").write_text("")
    metric = DepthMetric(out=str(tmp_path / "file" / "maps"))
    metric.process(None, [map_sample(7, "depth", some_map(), some_map())])
    assert metric.evaluate(1)["depth/abs_rel"] == 0
    assert "could not be written" in metric.failures[0]
