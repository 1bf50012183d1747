"""The shipped weights do what the model table says, on scenes that no training saw."""

import re
import statistics
import subprocess
import sys
import time

import pytest
import torch

from densevit import Predictor
from densevit.checkpoints.shipped import shipped
from densevit.datasets.scenes import render
from densevit.engine.config import read_config

# what holds on 500 scenes, and what a broken file or a broken head would miss on a few
GOALS = {"coco/bbox_AP": 0.45, "semantic/mIoU": 0.55, "depth/delta1": 0.85}


def metrics(root, tmp_path, images):
    """The command of the model table, on the first so many held-out scenes."""
    options = [f"test_dataloader.dataset.images={images}", "test_dataloader.num_workers=0"]
    command = [sys.executable, "tools/test.py", "pvt_multitask_scenes", "scenes", "--work-dir", str(tmp_path)]
    done = subprocess.run([*command, "--cfg-options", *options], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    return {name: float(re.findall(rf"{name}: ([\d.]+)", text)[-1]) for name in GOALS}


def test_a_few_scenes_are_seen_well(root, tmp_path):
    found = metrics(root, tmp_path, 32)
    assert all(found[name] > 0.9 * goal for name, goal in GOALS.items()), found


@pytest.mark.slow
def test_the_model_table_holds_on_five_hundred_scenes(root, tmp_path):
    found = metrics(root, tmp_path, 500)
    assert all(found[name] >= goal for name, goal in GOALS.items()), found
    row = next(line for line in (root / "README.md").read_text().splitlines() if line.startswith("| `scenes` |"))
    boxes, classes, depth = (float(cell.split("/")[0]) for cell in row.split("|")[4:7])
    assert found == pytest.approx(dict(zip(GOALS, (boxes, classes, depth), strict=True)), abs=0.001)


def test_the_file_is_small_and_half_precise():
    from safetensors import safe_open

    path = shipped("scenes")[1]
    assert path.stat().st_size < 10e6
    with safe_open(path, "pt") as file:
        kinds = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert {kind for kind in kinds if kind.is_floating_point} == {torch.float16}


@pytest.mark.slow
def test_three_heads_cost_less_than_one_point_six_detectors():
    config = read_config("pvt_multitask_scenes")
    every = Predictor("scenes", device="cpu")
    detector = Predictor("scenes", device="cpu")
    del detector.model.head["classes"], detector.model.head["depth"]
    assert set(every.model.head) == set(config.model.head)
    image = render(5, 1, (512, 512)).image[..., ::-1]
    for predictor in (every, detector):  # the picture as it is, not resized
        predictor.pipeline = [step for step in predictor.pipeline if step["type"] != "Resize"]
        predictor(image)
    ratios = []
    for _ in range(9):
        times = []
        for predictor in (every, detector):
            start = time.perf_counter()
            predictor(image)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    assert statistics.median(ratios) < 1.6
