"""The golden cases: outputs of the reference projects are reproduced, and a case that differs fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from parity.case import generate
from parity.compare import compare

GOLDEN = [
    "mmdet_bb2_sizes",
    "mmdet_bb_3stages",
    "mmdet_bb_nobias",
    "mmdet_bb_sizes",
    "mmdet_det_assign",
    "mmdet_det_border0",
    "mmdet_det_on_output_relu",
    "mmdet_det_scales_smooth",
    "mmdet_det_test_cfg",
    "mmdet_det_true_end",
    "mmdet_rcnn_bare",
    "mmdet_rcnn_micro",
    "mmdet_rcnn_micro_loss",
    "mmdet_rcnn_odd",
    "mmdet_rcnn_odd_loss",
    "mmdet_rcnn_odd_sizes_loss",
    "mmdet_rcnn_sizes_loss",
    "mmdet_swin_ape",
    "mmdet_swin_bare",
    "mmdet_swin_nonorm",
    "mmseg_seg_deconv_small",
    "mmseg_seg_dpt_bare",
    "mmseg_seg_dpt_norm",
    "mmseg_seg_fcn_ohem",
    "mmseg_seg_fpn_levels",
    "mmseg_seg_mae",
    "mmseg_seg_segmenter_swin",
    "mmseg_seg_setr_mla_aux",
    "mmseg_seg_setr_up",
    "mmseg_seg_upernet_corners",
    "mmseg_vit_bb_odd",
]


def here(root) -> dict[str, str]:
    """The environment, with this source tree in front of an installed densevit."""
    return {**os.environ, "PYTHONPATH": str(root)}


def run(root, *args) -> subprocess.CompletedProcess:
    command = [sys.executable, str(root / "tools" / "check_parity.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=here(root))


def test_golden_cases_pass(root):
    """Small models of mmdetection 3.3.0 and mmsegmentation 1.2.2 with options that the published recipes do not use."""
    done = run(root, root / "tests" / "data" / "parity")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:-1]] == [["ok", name] for name in GOLDEN]
    assert done.stdout.splitlines()[-1] == f"{len(GOLDEN)} passed, 0 failed, 0 skipped"


FOLDER = Path(__file__).resolve().parents[3] / "shared" / "parity"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))
NO_FOLDER = pytest.param("", marks=pytest.mark.skip(reason="needs the folder ../shared/parity"))


@pytest.mark.parametrize("name", CASES or [NO_FOLDER])
def test_a_reference_case_passes(name):
    """Cases of the published models; the folder is not part of the repository."""
    verdict, text, lines = compare(FOLDER / f"{name}.json")
    assert verdict in ("ok", "PART"), text
    skipped = {line.split()[-1] for line in lines if "not compared" in line}
    allowed = {"features", "logits", "probs", "stage4_tokens", "cls_token"}
    assert skipped <= allowed


def compare_edited(root, tmp_path, name, edit, tolerance=None) -> tuple[str, str]:
    """Verdict and text of a golden case with its description edited."""
    source = root / "tests" / "data" / "parity" / f"{name}.json"
    spec = json.loads(source.read_text())
    edit(spec)
    (tmp_path / source.name).write_text(json.dumps(spec))
    shutil.copy(source.with_suffix(".npz"), tmp_path / f"{name}.npz")
    with torch.random.fork_rng():
        return compare(tmp_path / source.name, tolerance)[:2]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda s: s["model"].update(num_layers=[1, 1, 1, 1]), "no place for"),
        (lambda s: s["model"].update(num_layers=[1, 1, 3, 1]), "lacks"),
        (lambda s: s["model"].update(windows=7), "windows"),
        (lambda s: s["state"].append(["strange.weight", [3], 0.0, 1.0, False]), "strange.weight"),
        (lambda s: s["state"][0].__setitem__(3, 0.5), "stage_"),
        (lambda s: s["outputs"].update(depth={"shape": [1], "stored": "whole"}), "no tensor of ours is depth"),
    ],
)
def test_a_case_that_differs_fails(root, tmp_path, edit, reason):
    verdict, text = compare_edited(root, tmp_path, "mmdet_bb_nobias", edit)
    assert verdict == "FAIL"
    assert reason in text


def test_a_model_that_is_not_supported_is_skipped_with_the_reason(root, tmp_path):
    verdict, text = compare_edited(root, tmp_path, "mmdet_bb_nobias", lambda s: s["model"].update(type="HRNet"))
    assert verdict == "SKIP"
    assert "HRNet" in text


def test_labels_have_to_be_equal_at_any_tolerance(root, tmp_path):
    def other_threshold(spec):
        spec["model"]["test_cfg"]["nms"]["iou_threshold"] = 0.9

    verdict, text = compare_edited(root, tmp_path, "mmdet_det_assign", other_threshold, tolerance=10.0)
    assert verdict == "FAIL"
    assert "det_labels differ" in text


def test_a_failed_case_makes_the_exit_code_1(root):
    done = run(root, root / "tests" / "data" / "parity" / "mmdet_bb_nobias.json", "--tolerance", "1e-12")
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL mmdet_bb_nobias")
    assert done.stdout.endswith("0 passed, 1 failed, 0 skipped\n")


def test_a_table_that_needs_no_resizing_is_compared(root, shared, tmp_path):
    """DINOv2 with registers at the size that its table is made for: the output is the parameter itself."""
    spec = json.loads((shared / "parity" / "dinov2_giant_like.json").read_text())
    spec["inputs"] = {"image": {"draw": ["image", [1, 3, 140, 140], 0.0, 1.0]}}
    spec["outputs"] = {"pos": {"shape": [1, 101, 96], "stored": "whole"}}
    table = next(entry for entry in spec["state"] if entry[0] == "pos_embed")
    (tmp_path / "square.json").write_text(json.dumps(spec))
    np.savez(tmp_path / "square.npz", **{"output/pos": generate(*table)})
    verdict, text, _ = compare(tmp_path / "square.json")
    assert (verdict, text) == ("ok", "compared 1 of 1 outputs  pos 0.00e+00")
