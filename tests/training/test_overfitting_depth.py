"""Seven real pairs of image and depth overfitted: units, holes, losses and metric agree with each other."""

import re
import subprocess
import sys

import cv2
import pytest

CONFIG = """
_base_ = [{base!r}]
size = (322, 238)
load = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=size, keep_ratio=False),
    dict(type="PackSample"),
]
data = dict(
    _delete_=True,
    type="DepthDataset",
    data_root={data!r},
    data_prefix=dict(img="rgb", depth="depth"),
    depth_scale=1000,
)
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(**data, pipeline=load))
test_pipeline = [load[0], load[2], load[1], load[3]]
val_dataloader = dict(num_workers=1, dataset=dict(**data, pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type="DepthMetric", crop=None, max_depth=10.5)
test_evaluator = val_evaluator
model = dict(head=dict(max_depth=12.0))
train_cfg = dict(max_epochs=120, val_interval=120)
default_hooks = dict(checkpoint=dict(interval=1000), logger=dict(interval=20))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, eta_min=1e-6, end=120),
]
optim_wrapper = dict(optimizer=dict(lr=5e-4))
"""


@pytest.mark.slow
def test_seven_pairs_are_overfitted(shared, root, dinov2_folder, tmp_path):
    nyu, others = shared / "data" / "nyu_sample", shared / "data" / "indoor_depth_extra"
    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
        for path in sorted((nyu / folder).iterdir()):
            (tmp_path / folder / path.name).symlink_to(path)
    (tmp_path / "rgb" / "motorcycle.jpg").symlink_to(others / "motorcycle_left.jpg")
    (tmp_path / "depth" / "motorcycle.png").symlink_to(others / "motorcycle_depth.png")
    (tmp_path / "rgb" / "tum_office.jpg").symlink_to(others / "tum_office.jpg")
    fifths = cv2.imread(str(others / "tum_office_depth.png"), cv2.IMREAD_UNCHANGED)  # meters = value / 5000
    cv2.imwrite(str(tmp_path / "depth" / "tum_office.png"), (fifths + 2) // 5)
    config = tmp_path / "overfit.py"
    config.write_text(CONFIG.format(base=str(root / "configs" / "dinov2_dpt_nyu.py"), data=str(tmp_path)))
    command = [sys.executable, "tools/train.py", str(config), "--amp", "--work-dir", str(tmp_path / "work")]
    command += ["--pretrained", str(dinov2_folder / "model.safetensors")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"depth/delta1: ([\d.]+)", done.stdout + done.stderr)[-1]) >= 0.95
