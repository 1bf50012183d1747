"""Sixteen real photographs overfitted: targets, losses, post-processing and metric agree with each other."""

import json
import re
import subprocess
import sys

import pytest

CONFIG = """
_base_ = [{base!r}]
size = (384, 384)
load = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks={masks}),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="PackSample"),
]
data = dict(
    _delete_=True,
    type="CocoDataset",
    data_root={data!r},
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017/"),
    with_masks={masks},
    pipeline=load,
)
train_dataloader = dict(batch_size=4, dataset=data)
val_dataloader = dict(batch_size=8, dataset=dict(**data, test_mode=True))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=50))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, eta_min=1e-6, end={epochs}),
]
optim_wrapper = dict(optimizer=dict(lr=5e-4))
"""
RETINANET = "model = dict(neck=dict(start_level=1, num_levels=5), head=dict(anchors=dict(octave_base_scale=1.5)))"
SWIN_MASKRCNN = """
small_swin = dict(embed_dim=48, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), mlp_ratio=4)
pooling = dict(finest_size=56.0)
model = dict(
    backbone=dict(_delete_=True, type="Swin", arch=small_swin),
    neck=dict(num_levels=5),
    head=dict(
        rpn=dict(anchors=dict(scales=(2, 4)), sample=dict(num=256)),
        box=dict(pooling=pooling),
        mask=dict(pooling=pooling),
    ),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "model", "masks", "metric"),
    [
        ("pvt_retinanet_scenes", RETINANET, False, "bbox_AP50"),
        ("pvt_maskrcnn_scenes", SWIN_MASKRCNN, True, "segm_AP50"),
    ],
    ids=["RetinaNet on PVT v2", "Mask R-CNN on a small Swin"],
)
def test_sixteen_photographs_are_overfitted(shared, root, tmp_path, recipe, model, masks, metric):
    source = shared / "data" / "coco_real"
    ground_truth = json.loads((source / "annotations" / "instances_train2017.json").read_text())
    annotated = {a["image_id"] for a in ground_truth["annotations"]}
    images = [image for image in ground_truth["images"] if image["id"] in annotated][:16]
    chosen = {image["id"] for image in images}
    part = dict(
        ground_truth, images=images, annotations=[a for a in ground_truth["annotations"] if a["image_id"] in chosen]
    )
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances_train2017.json").write_text(json.dumps(part))
    (tmp_path / "data" / "train2017").symlink_to(source / "train2017")
    config = tmp_path / "overfit.py"
    base = str(root / "configs" / f"{recipe}.py")
    config.write_text(CONFIG.format(base=base, data=str(tmp_path / "data"), epochs=240, masks=masks) + model)
    command = [sys.executable, "tools/train.py", str(config), "--amp", "--pretrained", "none"]
    done = subprocess.run([*command, "--work-dir", str(tmp_path / "work")], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(rf"coco/{metric}: ([\d.]+)", done.stdout + done.stderr)[-1]) >= 0.8
