"""The parity command: cases of the reference code pass, and a case that does not fit fails."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

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


def test_reference_cases_pass(root, shared):
    folder = shared / "parity"
    wanted = [
        *folder.glob("mmdet_pvt*.json"),
        *folder.glob("mmdet_retinanet*.json"),
        *folder.glob("mmdet_maskrcnn*.json"),
        *folder.glob("mmdet_cascade*.json"),
        *folder.glob("whai362_pvt_*.json"),
        *folder.glob("mmdet_swin*.json"),
        *folder.glob("microsoft_swin*.json"),
        *folder.glob("detectron2_swin*.json"),
        *folder.glob("mmseg_se*.json"),
        *folder.glob("mmseg_upernet*.json"),
        *folder.glob("whai362_semfpn*.json"),
        *folder.glob("rstrudel*.json"),
        *folder.glob("mmseg_dpt*.json"),
        *folder.glob("isl_dpt*.json"),
        *folder.glob("depth_anything*.json"),
    ]
    done = run(root, *sorted(wanted), "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{len(wanted)} passed, 0 failed, 0 skipped"
    left = {line.split()[-1] for line in done.stdout.splitlines() if "not compared" in line}
    assert left <= {"features", "logits", "stage4_tokens"}


def loaded(root):
    """The tool as a module."""
    tool = importlib.util.spec_from_file_location("check_parity", root / "tools" / "check_parity.py")
    module = importlib.util.module_from_spec(tool)
    tool.loader.exec_module(module)
    return module


def change(root, tmp_path, name, edit, tolerance=None) -> tuple[str, str]:
    """Verdict and words on a copy of a golden case with its description edited."""
    source = root / "tests" / "data" / "parity" / f"{name}.json"
    spec = json.loads(source.read_text())
    edit(spec)
    (tmp_path / source.name).write_text(json.dumps(spec))
    shutil.copy(source.with_suffix(".npz"), tmp_path / f"{name}.npz")
    with torch.random.fork_rng():
        verdict, words, _ = loaded(root).check(tmp_path / source.name, tolerance)
    return verdict, words


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda s: s["model"].update(num_layers=[1, 1, 1, 1]), "no place for"),
        (lambda s: s["model"].update(num_layers=[1, 1, 3, 1]), "lacks"),
        (lambda s: s["model"].update(windows=7), "windows"),
        (lambda s: s["state"].append(["strange.weight", [3], 0.0, 1.0, False]), "strange.weight"),
        (lambda s: s["state"][0].__setitem__(3, 0.5), "stage_"),
        (lambda s: s["outputs"].update(depth={"shape": [1], "stored": "whole"}), "no tensor of ours is depth"),
    ],
)
def test_a_case_that_does_not_fit_fails(root, tmp_path, edit, said):
    verdict, words = change(root, tmp_path, "mmdet_bb_nobias", edit)
    assert verdict == "FAIL"
    assert said in words


def test_a_model_that_is_not_built_yet_is_skipped_with_the_reason(root, tmp_path):
    verdict, words = change(root, tmp_path, "mmdet_bb_nobias", lambda s: s["model"].update(type="HRNet"))
    assert verdict == "SKIP"
    assert "HRNet" in words


def test_labels_have_to_be_equal_whatever_the_tolerance(root, tmp_path):
    def other_threshold(spec):
        spec["model"]["test_cfg"]["nms"]["iou_threshold"] = 0.9

    verdict, words = change(root, tmp_path, "mmdet_det_assign", other_threshold, tolerance=10.0)
    assert verdict == "FAIL"
    assert "det_labels differ" in words


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
    tool = loaded(root)
    table = next(entry for entry in spec["state"] if entry[0] == "pos_embed")
    (tmp_path / "square.json").write_text(json.dumps(spec))
    np.savez(tmp_path / "square.npz", **{"output/pos": tool.draw(*table)})
    verdict, text, _ = tool.check(tmp_path / "square.json", None)
    assert (verdict, text) == ("ok", "compared 1 of 1 outputs  pos 0.00e+00")
