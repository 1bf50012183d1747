"""`densevit predict` on models of depth, as a user runs it: files, points, videos, mistakes."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from densevit.cli import main
from densevit.engine.config import read_config
from densevit.inference.video import VideoReader, VideoWriter
from densevit.registry import MODELS

CONFIG = """
model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2),
                  sr_ratios=(8, 4, 2, 1), linear=False)),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=HEAD)
test_dataloader = dict(
    batch_size=1,
    dataset=dict(type="DepthDataset", pipeline=[
        dict(type="LoadImage"), dict(type="Resize", scale=(96, 96), keep_ratio=True), dict(type="PackSample")]))
"""
HEADS = {
    "metric": 'dict(type="FPNDepthHead", channels=8, max_depth=80.0)',
    "relative": 'dict(type="FPNDepthHead", channels=8, kind="relative")',
}
CAMERA = ("--intrinsics", 90, 90, 59.5, 39.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder with metric.py, relative.py and random weights for each that differ from location to location."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, head in HEADS.items():
        (folder / f"{name}.py").write_text(CONFIG.replace("HEAD", head))
        built = MODELS.build(Config.fromfile(folder / f"{name}.py").model)
        with torch.no_grad():
            built.head.depth_pred.weight.normal_(0, 0.5)
        torch.save({"state_dict": built.state_dict()}, folder / f"{name}.pth")
    return folder


@pytest.fixture
def demo(models, tmp_path, monkeypatch, capsys):
    """Runs the demo, in this process, on what lies in tmp_path, where a.png is there."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.GaussianBlur(noise, (0, 0), 4))
    monkeypatch.chdir(tmp_path)

    def run(source, name, *args):
        words = ["predict", source, models / f"{name}.py", "--weights", models / f"{name}.pth", "--device", "cpu"]
        try:
            main([str(word) for word in [*words, *args]])
            code = 0
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run


def refused(done) -> str:
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_metric_depth_is_written_as_png_npy_points_and_a_view_that_agree(demo, tmp_path):
    done = demo("a.png", "metric", "--depth-out", "both", "--depth-scale", 256, "--ply", "--cloud-view", *CAMERA)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "outputs"
    depth, values = np.load(out / "a_depth.npy"), cv2.imread(str(out / "a_depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.shape == values.shape == (80, 120) and depth.dtype == np.float32 and depth.std() > 1
    np.testing.assert_allclose(values / 256, depth, atol=0.51 / 256)
    said = json.loads((out / "a.json").read_text())["depth"]
    assert (said["kind"], said["unit"]) == ("metric", "m") and said["max"] == depth.max()
    head, body = (out / "a.ply").read_bytes().split(b"end_header\n", 1)
    points = np.frombuffer(body, np.dtype([("place", "<f4", 3), ("color", "u1", 3)]))
    assert f"element vertex {len(points)}".encode() in head and len(points) == depth.size
    assert np.array_equal(points["place"][:, 2].reshape(80, 120), depth)
    picture = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert np.array_equal(points["color"].reshape(80, 120, 3), picture)
    assert max(cv2.imread(str(out / "a_cloud.png")).shape) == pytest.approx(800, abs=2)
    for name in ("a.png", "a.json", "a_depth.png", "a_depth.npy", "a.ply (9600 points)", "a_cloud.png"):
        assert f"outputs/{name}" in done.stdout


def test_what_is_too_far_for_16_bits_is_said(demo, tmp_path):
    done = demo("a.png", "metric", "--depth-out", "png", "--depth-scale", 5000)
    assert done.returncode == 0, done.stderr
    values = cv2.imread(str(tmp_path / "outputs" / "a_depth.png"), cv2.IMREAD_UNCHANGED)
    assert f"({(values == 65535).sum()} pixels are farther than its 13.107 m" in done.stdout


def test_relative_depth_is_said_to_be_relative_and_makes_no_points(demo, tmp_path):
    done = demo("a.png", "relative", "--depth-out", "both")
    assert done.returncode == 0, done.stderr
    assert "relative depth (no unit" in done.stdout and " m ->" not in done.stdout
    said = json.loads((tmp_path / "outputs" / "a.json").read_text())["depth"]
    assert said["kind"] == "relative" and said["unit"] is None
    depth = np.load(tmp_path / "outputs" / "a_depth.npy")
    values = cv2.imread(str(tmp_path / "outputs" / "a_depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.std() > 0 and values.max() == 65535 and values.argmax() == depth.argmax()
    assert "needs meters" in refused(demo("a.png", "relative", "--ply", *CAMERA))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ply"], "--ply needs the camera: --intrinsics FX FY CX CY"),
        (["--cloud-view"], "--cloud-view needs the camera"),
        (["--intrinsics", 1, 2, 3, 4], "say what to write, --ply, --cloud-view or both"),
        (["--ply", "--intrinsics", 1, 2, 3], "takes four numbers"),
        (["--ply", "--intrinsics", "a", 2, 3, 4], "takes four numbers"),
        (["--ply", "--intrinsics", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--ply", "--intrinsics", -90, 90, 59.5, 39.5], "focal lengths are positive"),
        (["--ply", "--intrinsics", 500, 500, 320, 240], "outside of an image of 120x80 pixels"),
        (["--depth-out", "png", "--depth-scale", 0], "numbers a meter"),
        (["--depth-scale", 256], "--depth-out png"),
        (["--depth-range", 5, 1], "0 < NEAR < FAR"),
        (["--depth-range", 0, 1], "0 < NEAR < FAR"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(demo, options, words):
    assert words in refused(demo("a.png", "metric", *options))


def test_the_range_of_relative_depth_has_the_larger_number_nearer(demo):
    assert "give NEAR > FAR" in refused(demo("a.png", "relative", "--depth-range", 1, 5))


def frames_of(path):
    return [frame.astype(int) for frame in VideoReader(path)]


def test_a_video_keeps_the_same_colors_for_the_same_meters(demo, tmp_path):
    dark = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    with VideoWriter(tmp_path / "clip.mp4", 5) as writer:
        for shift in (0, 0, 40, 80):
            writer.write(np.clip(dark.astype(int) + shift, 0, 255).astype(np.uint8))
    done = demo("clip.mp4", "metric", "--depth-range", 1, 90, "--depth-out", "npy")
    assert done.returncode == 0, done.stderr
    assert "outputs/clip_depth/" in done.stdout
    maps = [np.load(path) for path in sorted((tmp_path / "outputs" / "clip_depth").iterdir())]
    frames = frames_of(tmp_path / "outputs" / "clip.mp4")
    assert len(maps) == len(frames) == 4
    factor = frames[0].shape[1] // 120
    bars = [frame[80 * factor + 8 :, :] for frame in frames]
    assert max(np.abs(bar - bars[0]).mean() for bar in bars) < 2  # one scale stands below all of them
    lines = [json.loads(line) for line in (tmp_path / "outputs" / "clip.jsonl").read_text().splitlines()]
    assert [line["depth"]["max"] for line in lines] == [float(depth.max()) for depth in maps]
    assert "makes points of images" in refused(demo("clip.mp4", "metric", "--ply", *CAMERA))


def test_a_model_without_depth_has_nothing_to_write(demo, models, tmp_path):
    text = CONFIG.replace("HEAD", 'dict(type="SemanticFPNHead", channels=8)')
    (models / "classes.py").write_text(text.replace("head=", 'semantic_classes=("a", "b"), head='))
    built = MODELS.build(read_config(models / "classes.py").model)
    torch.save({"state_dict": built.state_dict()}, models / "classes.pth")
    assert "predicts no depth" in refused(demo("a.png", "classes", "--depth-out", "png"))
    assert "predicts none" in refused(demo("a.png", "classes", "--ply", *CAMERA))
    assert "predicts none" in refused(demo("a.png", "classes", "--depth-range", 1, 5))
    assert not (tmp_path / "outputs" / "a.png").exists()


def test_maps_of_a_video_are_not_written_among_the_images(demo, tmp_path):
    folder = tmp_path / "outputs" / "clip_depth"
    folder.mkdir(parents=True)
    with VideoWriter(folder / "clip.mp4", 5) as writer:
        writer.write(np.zeros((40, 60, 3), np.uint8))
    done = demo("outputs/clip_depth/clip.mp4", "metric", "--depth-out", "npy")
    assert done.returncode == 2 and "clip_depth' holds the images: choose another --out-dir" in done.stderr
