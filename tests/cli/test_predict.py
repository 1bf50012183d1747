"""demo/image_demo.py and tools/contact_sheet.py as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tiny
import tiny_coco
import torch
from mmengine.config import Config

from densevit.inference.video import VideoReader, VideoWriter
from densevit.ops.masks import decode_rle
from densevit.registry import MODELS

RETINANET = 'dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0, max_per_image=5))'
MASK_RCNN = """dict(
        type="MaskRCNNHead", rpn=dict(feat_channels=8, anchors=dict(scales=(4,))), mask=dict(channels=8),
        box=dict(fc_channels=16, test=dict(score_thr=0.0, max_per_image=5)))"""
CONFIG = """
model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2),
                  sr_ratios=(8, 4, 2, 1), linear=False)),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=HEAD)
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
""".replace("HEAD", RETINANET)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with config.py, weights.pth (random) and a COCO tree that they fit."""
    folder = tmp_path_factory.mktemp("model")
    tiny_coco.make_tiny_coco(folder / "coco", val=5)
    ground_truth = json.loads((folder / "coco/annotations/instances_val2017.json").read_text())
    (folder / "config.py").write_text(CONFIG)
    torch.manual_seed(0)
    meta = {"dataset_meta": {"classes": tuple(c["name"] for c in ground_truth["categories"])}}
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


@pytest.fixture(scope="module")
def mask_model(model):
    """config.py and weights.pth (random) of a Mask R-CNN for the same tree."""
    folder = model / "masks"
    folder.mkdir()
    text = CONFIG.replace(RETINANET, MASK_RCNN).replace("test_mode=True,", "test_mode=True, with_masks=True,")
    (folder / "config.py").write_text(text.replace('"LoadAnnotations"', '"LoadAnnotations", with_masks=True'))
    torch.manual_seed(0)
    built = MODELS.build(Config.fromfile(folder / "config.py").model | dict(classes=("class 0", "class 1", "class 2")))
    with torch.no_grad():  # masks and scores that differ from location to location
        for weights in built.head.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    meta = torch.load(model / "weights.pth", weights_only=True)["meta"]
    torch.save({"state_dict": built.state_dict(), "meta": meta}, folder / "weights.pth")
    return folder


def test_masks_are_drawn_and_written(mask_model, run, tmp_path):
    picture(tmp_path / "a.png", (300, 400))
    done = run("demo/image_demo.py", "a.png", *arguments(mask_model))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "outputs" / "a.json").read_text())
    assert len(found["objects"]) == 5
    masks = [decode_rle(one["segmentation"]) for one in found["objects"]]
    assert all(mask.shape == (300, 400) for mask in masks) and any(mask.any() for mask in masks)


def test_large_pictures_in_tiles(mask_model, run, tmp_path):
    picture(tmp_path / "a.png", (300, 400))
    done = run("demo/image_demo.py", "a.png", *arguments(mask_model), "--tile", "150", "--overlap", "40")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "outputs" / "a.json").read_text())
    assert len(found["objects"]) > 10  # five of each tile, some of them one
    boxes = np.array([one["box"] for one in found["objects"]])
    assert boxes[:, 2].max() > 300 and boxes[:, 3].max() > 200 and (boxes[:, 2:] <= [400, 300]).all()
    assert {tuple(one["segmentation"]["size"]) for one in found["objects"]} == {(300, 400)}


def video(path, count=12, size=(96, 128)):
    picture = np.random.default_rng(0).integers(0, 256, (size[0], size[1] + count, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (9, 9), 0)
    with VideoWriter(path, 6) as writer:
        for n in range(count):
            writer.write(picture[:, n : n + size[1]])


def test_a_video_in_is_a_video_out_with_a_line_a_frame(mask_model, run, tmp_path):
    video(tmp_path / "clip.mp4")
    done = run("demo/image_demo.py", "clip.mp4", *arguments(mask_model))
    assert done.returncode == 0, done.stderr
    assert "12 frames at 6 a second" in done.stdout and "outputs/clip.jsonl" in done.stdout
    before, after = (VideoReader(tmp_path / folder / "clip.mp4") for folder in ("", "outputs"))
    assert after.rate == 6 and after.count == 12
    drawn = list(after)
    assert len(drawn) == 12 and drawn[0].shape == (288, 384, 3)  # enlarged, to be read
    originals = [cv2.resize(frame, (384, 288)) for frame in before]
    assert all(np.abs(a.astype(int) - b).max() > 60 for a, b in zip(drawn, originals, strict=True))
    lines = [json.loads(line) for line in (tmp_path / "outputs" / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12)) and lines[9]["seconds"] == 1.5
    assert (lines[0]["image"], lines[0]["width"], len(lines[0]["objects"])) == ("clip.mp4", 128, 5)
    assert "segmentation" in lines[0]["objects"][0]


def test_a_broken_video_is_one_sentence_and_exit_code_2(mask_model, run, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    done = run("demo/image_demo.py", "bad.mp4", *arguments(mask_model))
    assert done.returncode == 2 and "bad.mp4 cannot be read as a video" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "outputs").exists()


def test_an_interrupted_video_can_be_played(mask_model, root, tmp_path):
    video(tmp_path / "clip.mp4", count=3000, size=(48, 64))
    command = [sys.executable, str(root / "demo/image_demo.py"), "clip.mp4", *map(str, arguments(mask_model))]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # a shell starts what runs in its background deaf to interrupts, and that is handed down
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as running:
        lines = tmp_path / "outputs" / "clip.jsonl"
        for _ in range(3000):
            if lines.is_file() and lines.stat().st_size > 3000:
                break
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in said and "stopped: clip.mp4 after" in said
    frames = len(list(VideoReader(tmp_path / "outputs" / "clip.mp4")))
    assert 0 < frames < 3000 and frames == len(lines.read_text().splitlines())


def test_a_contact_sheet_shows_masks(mask_model, model, run, tmp_path):
    done = run(
        *("tools/contact_sheet.py", mask_model / "config.py", mask_model / "weights.pth"),
        *("--data-root", model / "coco", "--images", "2", "--device", "cpu", "--score-thr", "0"),
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "contact_sheet.png")).shape[1] > 4 * 400


def test_a_contact_sheet_of_ground_truth_and_prediction(model, run, tmp_path):
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
