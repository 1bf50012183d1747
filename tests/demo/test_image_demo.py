"""demo/image_demo.py and tools/contact_sheet.py as a user runs them."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny
import tiny_coco
import torch

from densevit.registry import MODELS

CONFIG = """
model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2),
                  sr_ratios=(8, 4, 2, 1), linear=False)),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0, max_per_image=5)))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type="CocoDataset",
        data_root="data/coco",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations"),
            dict(type="Resize", scale=(96, 96), keep_ratio=True),
            dict(type="PackSample"),
        ]))
test_dataloader = val_dataloader
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with config.py, weights.pth (random) and a COCO tree that they fit."""
    folder = tmp_path_factory.mktemp("model")
    tiny_coco.make_tiny_coco(folder / "coco", val=5)
    truth = json.loads((folder / "coco/annotations/instances_val2017.json").read_text())
    (folder / "config.py").write_text(CONFIG)
    torch.manual_seed(0)
    meta = {"dataset_meta": {"classes": tuple(c["name"] for c in truth["categories"])}}
    torch.save({"state_dict": MODELS.build(tiny.model_config()).state_dict(), "meta": meta}, folder / "weights.pth")
    return folder


@pytest.fixture
def run(root, tmp_path):
    def run(script, *args):
        command = [sys.executable, str(root / script), *map(str, args)]
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, env=environment)

    return run


def picture(path, size=(40, 60)):
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def arguments(model):
    return model / "config.py", "--weights", model / "weights.pth", "--device", "cpu", "--score-thr", "0"


def test_one_photograph(shared, model, run, tmp_path):
    shutil.copy(shared / "data" / "photos" / "cat.jpg", tmp_path / "cat.jpg")
    before = (tmp_path / "cat.jpg").read_bytes()
    done = run("demo/image_demo.py", "cat.jpg", *arguments(model))
    assert done.returncode == 0, done.stderr
    assert "outputs/cat.jpg" in done.stdout and "outputs/cat.json" in done.stdout
    drawn = cv2.imread(str(tmp_path / "outputs" / "cat.jpg"))
    original = cv2.imread(str(tmp_path / "cat.jpg"))
    assert drawn.shape == original.shape == (300, 451, 3)
    assert (np.abs(drawn.astype(int) - original) > 60).any()
    found = json.loads((tmp_path / "outputs" / "cat.json").read_text())
    assert (found["width"], found["height"], len(found["objects"])) == (451, 300, 5)
    assert set(found["objects"][0]) == {"name", "label", "score", "box", "bbox"}
    assert (tmp_path / "cat.jpg").read_bytes() == before


def test_a_folder_with_broken_images_is_gone_through_to_the_end(model, run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(folder / "a.jpg")
    picture(folder / "a.png", (400, 500))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "torn.jpg").write_bytes((folder / "a.jpg").read_bytes()[:500])
    (folder / "notes.txt").write_text("no image")
    done = run("demo/image_demo.py", folder, *arguments(model), "--out-dir", "drawn")
    assert done.returncode == 0, done.stderr
    assert "2 of 4 images done, 2 left out as unreadable" in done.stdout
    assert done.stderr.count("left out: ") == 2 and "empty.jpg" in done.stderr and "torn.jpg" in done.stderr
    written = sorted(p.name for p in (tmp_path / "drawn").iterdir())
    assert written == ["a.jpg", "a.json", "a_2.json", "a_2.png"]
    assert cv2.imread(str(tmp_path / "drawn" / "a.jpg")).shape == (240, 360, 3)  # enlarged, to be read
    sizes = [json.loads((tmp_path / "drawn" / n).read_text())["width"] for n in ("a.json", "a_2.json")]
    assert sizes == [60, 500]


@pytest.mark.parametrize("content", [None, b"", b"no image at all"])
def test_a_single_broken_image_is_one_sentence_and_exit_code_2(model, run, tmp_path, content):
    if content is not None:
        (tmp_path / "bad.jpg").write_bytes(content)
    done = run("demo/image_demo.py", "bad.jpg", *arguments(model))
    assert done.returncode == 2 and "bad.jpg" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_the_images_themselves_are_never_overwritten(model, run, tmp_path):
    picture(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    done = run("demo/image_demo.py", "a.jpg", *arguments(model), "--out-dir", ".")
    assert done.returncode == 2 and "overwritten" in done.stderr
    assert (tmp_path / "a.jpg").read_bytes() == before


def test_a_contact_sheet_of_truth_and_prediction(model, run, tmp_path):
    done = run(
        *("tools/contact_sheet.py", model / "config.py", model / "weights.pth", "--data-root", model / "coco"),
        *("--out", "sheets/sheet.png", "--images", "3", "--device", "cpu", "--score-thr", "0"),
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "sheets" / "sheet.png") in done.stdout
    sheet = cv2.imread(str(tmp_path / "sheets" / "sheet.png"))
    assert sheet.shape[1] > 4 * 400 and 2 * 300 < sheet.shape[0] < 3 * 400


def test_a_contact_sheet_of_other_classes_is_refused(model, run, tmp_path):
    tiny_coco.make_tiny_coco(tmp_path / "other", classes=2)
    done = run(
        *("tools/contact_sheet.py", model / "config.py", model / "weights.pth", "--data-root", tmp_path / "other"),
        *("--device", "cpu"),
    )
    assert done.returncode == 2 and "was trained for" in done.stderr and "Traceback" not in done.stderr
