"""Checking images with depth maps: each mistake gets a line, range and holes are reported."""

import subprocess
import sys

import cv2
import numpy as np
from tiny_depth import make_tiny_depth, put_depth, tiny_depth, tiny_depth_dataset

import densevit.datasets  # noqa: F401
from densevit.datasets.validation_depth import check_depth
from densevit.registry import DATASETS

CONFIG = """
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='DepthDataset',
        depth_scale=1000,
        data_root='data/any',
        data_prefix=dict(img='rgb', depth='depth'),
        pipeline=[dict(type='LoadImage')]))
val_dataloader = train_dataloader
"""


def check(tree, images=None, **settings):
    settings = dict(tiny_depth_dataset(tree, pipeline=[], **settings), check_files=False, test_mode=True)
    return check_depth(DATASETS.build(settings), images)


def test_the_report_tells_range_and_holes(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    report, depth = check(tree), np.stack([tiny_depth(seed) for seed in range(4)])
    known = depth[depth > 0]
    assert (report.images, report.decoded, report.stats["pixels"], report.stats["measured"]) == (
        4,
        4,
        depth.size,
        len(known),
    )
    assert np.allclose(
        (report.stats["nearest"], report.stats["mean"], report.stats["farthest"]),
        (known.min(), known.mean(), known.max()),
    )
    assert report.problems == [] and report.text().endswith("no problem found")
    assert f"{100 * (depth == 0).mean():.2f} % of them holes" in report.text()
    assert check(tree, images=2).decoded == 2
    assert check(tree, data_prefix=dict(img="rgb")).problems == []


def test_each_mistake_of_depth_maps_has_its_line(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree", 9)
    (tree / "rgb/000.png").write_bytes(b"")
    (tree / "depth/001.png").unlink()
    (tree / "depth/002.png").write_bytes((tree / "depth/002.png").read_bytes()[:60])
    (tree / "rgb/003.png").write_bytes(b"no image")
    put_depth(tree / "depth/004.png", tiny_depth(4, (48, 63)))
    cv2.imwrite(str(tree / "depth/005.png"), np.full((48, 64), 9, np.uint8))
    put_depth(tree / "depth/006.png", np.zeros((48, 64)))
    report = check(tree)
    for part in (
        f"Image {tree / 'rgb/000.png'} is empty",
        f"Depth map {tree / 'depth/001.png'} does not exist",
        "002.png is truncated",
        "003.png cannot be decoded",
        "004.png is 64x48 pixels, but depth map",
        "005.png has 8 bits",
        "006.png holds no depth",
    ):
        assert sum(part in problem for problem in report.problems) == 1, part
    assert len(report.problems) == 7
    assert all(problem.endswith(".") and "\n" not in problem for problem in report.problems)


def test_a_wrong_unit_is_a_problem(tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    assert ["millimeters? set depth_scale" in problem for problem in check(tree, depth_scale=1).problems] == [True] * 4
    too_near = check(tree, depth_scale=1e6).problems
    assert len(too_near) == 1 and "is 0.009 m: correct depth_scale=1e+06" in too_near[0]


def test_the_tool_reads_depth(root, tmp_path):
    tree = make_tiny_depth(tmp_path / "tree")
    config = tmp_path / "config.py"
    config.write_text(CONFIG)

    def run():
        command = [sys.executable, str(root / "tools/check_data.py"), str(config), "--data-root", str(tree)]
        return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(root), "PATH": ""})

    sound = run()
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert sound.stdout.count("no problem found") == 1  # val is train again
    assert "meters = number / 1000" in sound.stdout
    put_depth(tree / "depth/002.png", np.zeros((48, 64)))
    assert run().returncode == 2
