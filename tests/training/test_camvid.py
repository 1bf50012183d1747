"""What frozen features and a linear classifier reach on CamVid's 78 test images, trained as users do; 15 minutes."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_linear_classifier_on_frozen_features_reaches_a_probe(shared, root, dinov2_folder, tmp_path):
    command = [sys.executable, "tools/train.py", "configs/vit_linear_camvid.py", "--amp", "--work-dir", str(tmp_path)]
    command += ["--data-root", str(shared / "data" / "camvid_third")]
    command += ["--pretrained", str(dinov2_folder / "model.safetensors")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"semantic/mIoU: ([\d.]+)", done.stdout + done.stderr)[-1]) >= 0.43
