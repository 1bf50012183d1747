"""Sixteen scenes overfitted by every head of class maps on a small plain ViT from random weights."""

import re
import subprocess
import sys

import pytest

CONFIG = """
_base_ = [{base!r}]
side = 96
data = dict(type="ScenesDataset", images=16, size=(side, side), pipeline=[dict(type="PackSample")])
train_dataloader = dict(batch_size=4, dataset=dict(_delete_=True, **data))
val_dataloader = dict(batch_size=8, dataset=dict(_delete_=True, **data, test_mode=True))
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        _delete_=True,
        type="ViT",
        arch=dict(embed_dim=96, depth=4, num_heads=3, mlp_ratio=2),
        patch_size=4,
        img_size=side,
        out_indices={taps},
        final_norm=None,
    ),
    neck={neck},
    head=dict(_delete_=True, **{head}),
    auxiliary={auxiliary},
)
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
default_hooks = dict(checkpoint=dict(interval=10_000), logger=dict(interval=100))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, eta_min=1e-6, end={epochs}),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
"""
LAST, ALL = (3,), (0, 1, 2, 3)
CASES = {
    "SETR naive": dict(taps=LAST, head=dict(type="SETRHead", decoder="naive", channels=64)),
    "SETR PUP": dict(
        taps=(1, 3),
        head=dict(type="SETRHead", decoder="pup", in_index=1, num_convs=2, channels=64),
        auxiliary=[dict(type="SETRHead", decoder="pup", in_index=0, num_convs=1, channels=32, loss_weight=0.4)],
    ),
    "SETR MLA": dict(
        taps=ALL,
        neck=dict(_delete_=True, type="MLANeck", channels=64),
        head=dict(type="SETRHead", decoder="mla", channels=32),
        auxiliary=[dict(type="FCNHead", in_index=0, neck_index=1, num_convs=0, loss_weight=0.4)],
    ),
    "Segmenter": dict(taps=LAST, head=dict(type="SegmenterHead", num_layers=2, num_heads=3)),
    "UPerNet": dict(
        taps=ALL,
        neck=[dict(type="MultiLevelNeck", channels=64), dict(type="UPerNet", channels=64)],
        head=dict(type="FCNHead", num_convs=0),
        auxiliary=[dict(type="FCNHead", in_index=2, channels=32, loss_weight=0.4)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_sixteen_scenes_are_overfitted(root, tmp_path, name):
    case = {"neck": None, "auxiliary": [], "epochs": 400, **CASES[name]}
    config = tmp_path / "overfit.py"
    config.write_text(CONFIG.format(base=str(root / "configs" / "pvt_fpn_scenes.py"), **case))
    command = [sys.executable, "tools/train.py", str(config), "--pretrained", "none"]
    done = subprocess.run([*command, "--work-dir", str(tmp_path / "work")], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"semantic/mIoU: ([\d.]+)", done.stdout + done.stderr)[-1]) >= 0.9
