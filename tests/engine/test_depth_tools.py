"""Testing a model of depth, as a user types it: metrics, maps in the dataset's unit, pictures."""

import cv2
import numpy as np
import pytest
import torch
from commands import run
from short_runs import STAGES

import densevit.models  # noqa: F401
from densevit.engine.config import read_config
from densevit.registry import MODELS

CONFIG = """
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="EvalSampler"),
    dataset=dict(type="DepthDataset", data_root="{root}", data_prefix=dict(img="images", depth="depth"),
        depth_scale="kitti", test_mode=True,
        pipeline=[dict(type="LoadImage"), dict(type="Resize", scale=(96, 64), keep_ratio=True),
            dict(type="LoadAnnotations"), dict(type="PackSample")]))
val_dataloader = test_dataloader
test_evaluator = dict(type="DepthMetric", max_depth=80)
test_cfg = dict()
default_scope = "densevit"
model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch={stages}),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(type="FPNDepthHead", channels=8, min_depth=1, max_depth=90))
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Three images of two drives with depth maps that have holes, a config and a checkpoint."""
    folder = tmp_path_factory.mktemp("depth")
    rng = np.random.default_rng(0)
    for drive, count in (("a", 2), ("b", 1)):
        for name in ("images", "depth"):
            (folder / "data" / name / drive).mkdir(parents=True)
        for number in range(count):  # both drives begin at 0
            image = rng.integers(0, 256, (70 + 4 * number, 110, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / "data" / "images" / drive / f"{number}.png"), cv2.GaussianBlur(image, (0, 0), 3))
            depth = rng.integers(256, 256 * 70, image.shape[:2]).astype(np.uint16)
            depth[rng.random(depth.shape) < 0.5] = 0
            cv2.imwrite(str(folder / "data" / "depth" / drive / f"{number}.png"), depth)
    (folder / "run.py").write_text(CONFIG.format(root=folder / "data", stages=STAGES))
    torch.manual_seed(0)
    model = MODELS.build(dict(read_config(folder / "run.py").model))
    torch.nn.init.normal_(model.head.depth_pred.weight, std=0.5)
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    return folder


def test_maps_in_the_datasets_unit_give_the_metrics_again(setting, root):
    options = ["--work-dir", setting / "work", "--out", setting / "maps", "--show-dir", setting / "show"]
    done = run(root, "test.py", setting / "run.py", setting / "weights.pth", *options)
    assert done.returncode == 0, done.stderr
    shown = {str(path.relative_to(setting / "show")) for path in (setting / "show").rglob("*.jpg")}
    assert shown == {"a/0.jpg", "a/1.jpg", "b/0.jpg"}
    errors = []
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        found, ground_truth = (
            cv2.imread(str(location / name), cv2.IMREAD_UNCHANGED) / 256
            for location in (setting / "maps", setting / "data" / "depth")
        )
        counted = ground_truth > 0
        assert found.shape == ground_truth.shape and found.std() > 0.5
        found = np.clip(found, 1e-3, 80)
        errors.append((np.abs(found - ground_truth)[counted] / ground_truth[counted]).mean())
    line = next(line for line in reversed(done.stdout.splitlines()) if "depth/abs_rel" in line)
    metric = float(line.split("depth/abs_rel: ")[1].split()[0])
    assert metric == pytest.approx(np.mean(errors), abs=2e-3)
    assert "meters = value / 256, 0 = none" in done.stdout


def test_a_sheet_of_a_dataset_that_has_no_classes(setting, root):
    options = ["--out", setting / "sheet.png", "--images", 2, "--device", "cpu"]
    done = run(root, "contact_sheet.py", setting / "run.py", setting / "weights.pth", *options)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(setting / "sheet.png")).shape[1] > 3 * 400  # image, ground truth, prediction
