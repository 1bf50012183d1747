"""Testing a model of pixel classes, as a user types it: metrics, result maps, pictures, several looks."""

import json

import cv2
import numpy as np
import pytest
import torch
from commands import refused_last, run
from PIL import Image
from short_runs import STAGES

import densevit.models  # noqa: F401
from densevit.engine.config import read_config
from densevit.registry import MODELS

NAMES = ("sky", "ground", "thing")
COLORS = [[10, 20, 200], [90, 160, 40], [250, 30, 30]]
CONFIG = """
test_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="EvalSampler"),
    dataset=dict(type="SemanticDataset", classes="classes.json", data_root="{root}",
        data_prefix=dict(img="images", seg="maps"), reduce_zero_label=True, test_mode=True,
        pipeline=[dict(type="LoadImage"), dict(type="Resize", scale=(96, 64), keep_ratio=True),
            dict(type="LoadAnnotations"), dict(type="PackSample")]))
test_evaluator = dict(type="SemanticMetric")
test_cfg = dict()
default_scope = "densevit"
model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch={stages}),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(type="SemanticFPNHead", channels=8),
    inference=dict(type="SlidingWindow", window=(64, 64), stride=(32, 32)))
"""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Five images with maps whose value 0 is no class, a config and a checkpoint."""
    folder = tmp_path_factory.mktemp("semantic")
    rng = np.random.default_rng(0)
    for name in ("images", "maps"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(5):
        size = (70 + 4 * number, 110)
        image = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3)).astype(np.uint8), (0, 0), 3)
        cv2.imwrite(
            str(folder / "data" / "images" / f"p{number}.png"), cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
        )
        ground_truth = np.kron(rng.integers(0, 4, (2, 2)), np.ones((50, 55), int)).astype(np.uint8)[
            : size[0], : size[1]
        ]
        cv2.imwrite(str(folder / "data" / "maps" / f"p{number}.png"), ground_truth)
    classes = [dict(name=name, color=color) for name, color in zip(NAMES, COLORS, strict=True)]
    (folder / "data" / "classes.json").write_text(json.dumps(classes))
    (folder / "run.py").write_text(CONFIG.format(root=folder / "data", stages=STAGES))
    torch.manual_seed(0)
    model = MODELS.build(dict(read_config(folder / "run.py").model, classes=NAMES))
    torch.nn.init.normal_(model.head.cls_pred.weight, std=3.0)
    meta = {"dataset_meta": {"classes": NAMES, "palette": COLORS}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, folder / "weights.pth")
    return folder


def metrics_of(done) -> dict[str, float]:
    line = next(line for line in reversed(done.stdout.splitlines()) if "semantic/mIoU" in line)
    words = line.split("semantic/")[1:]
    return {word.split(":")[0]: float(word.split(":")[1].split()[0]) for word in words}


def test_maps_pictures_and_the_matrix_agree_with_the_metrics(setting, root):
    options = ["--work-dir", setting / "work", "--out", setting / "maps", "--palette", "--show-dir", setting / "show"]
    done = run(root, "test.py", setting / "run.py", setting / "weights.pth", *options)
    assert done.returncode == 0, done.stderr
    matrix = np.zeros((3, 3), int)
    for path in sorted((setting / "data" / "maps").iterdir()):
        found = Image.open(setting / "maps" / path.name)
        values, ground_truth = np.array(found), np.array(Image.open(path))
        assert found.mode == "P" and values.shape == ground_truth.shape and values.min() >= 1 and values.max() <= 3
        shown = {tuple(color) for color in np.array(found.convert("RGB")).reshape(-1, 3).tolist()}
        assert shown <= {tuple(color) for color in COLORS}
        np.add.at(matrix, (ground_truth[ground_truth > 0] - 1, values[ground_truth > 0] - 1), 1)
    stored = json.loads((setting / "work" / "confusion_matrix.json").read_text())
    assert stored["classes"] == list(NAMES) and np.array_equal(stored["matrix"], matrix)
    right = matrix.diagonal()
    iou = right / (matrix.sum(0) + matrix.sum(1) - right)
    assert metrics_of(done) == pytest.approx(
        dict(mIoU=iou.mean(), mAcc=(right / matrix.sum(1)).mean(), aAcc=right.sum() / matrix.sum()), abs=1e-4
    )
    assert {path.stem for path in (setting / "show").iterdir()} == {f"p{number}" for number in range(5)}
    done = run(root, "confusion_matrix.py", setting / "work" / "confusion_matrix.json", "--out", setting / "c.png")
    assert done.returncode == 0 and "is taken for" in done.stdout and cv2.imread(str(setting / "c.png")) is not None


def test_several_looks_change_the_maps_and_count_each_image_once(setting, root):
    arguments = [setting / "run.py", setting / "weights.pth", "--work-dir", setting / "other"]
    once = run(root, "test.py", *arguments, "--out", setting / "once")
    looks = run(root, "test.py", *arguments, "--out", setting / "looks", "--scales", 0.5, 1, 1.5, "--flip")
    assert once.returncode == looks.returncode == 0, looks.stderr
    assert metrics_of(once) != metrics_of(looks) and "of 5 images" in looks.stdout
    pairs = [[np.array(Image.open(setting / way / f"p{n}.png")) for way in ("once", "looks")] for n in range(5)]
    assert all(a.shape == b.shape for a, b in pairs) and 0 < np.mean([(a != b).mean() for a, b in pairs]) < 0.9


def test_a_test_set_without_ground_truth_is_predicted_and_not_scored(setting, root):
    arguments = [setting / "run.py", setting / "weights.pth", "--work-dir", setting / "bare"]
    bare = ["--cfg-options", "test_dataloader.dataset.data_prefix.seg=None"]
    done = run(root, "test.py", *arguments, "--out", setting / "blind", "--show-dir", setting / "seen", *bare)
    assert done.returncode == 0, done.stderr
    assert "nothing scored" in done.stdout and len(list((setting / "blind").iterdir())) == 5
    assert len(list((setting / "seen").iterdir())) == 5
    text = refused_last(run(root, "test.py", *arguments, *bare))
    assert "has none; load it" in text and "--out DIR" in text


def test_mistakes_are_reported_in_a_sentence(setting, root):
    arguments = [setting / "run.py", setting / "weights.pth", "--work-dir", setting / "wrong"]
    assert "a folder of PNG files" in refused_last(run(root, "test.py", *arguments, "--out", setting / "results.json"))
    assert "scales above zero" in refused_last(run(root, "test.py", *arguments, "--scales", 0, 1))
