"""Photographs overfitted with DINOv2's ViT-S, as it is, in ViTDet and in ViT-Adapter: weights, adapters, heads and
metric agree with each other."""

import json
import re
import subprocess
import sys

import pytest

CONFIG = """
_base_ = [{base!r}]
load = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(type="Resize", scale=(256, 256), keep_ratio=True),
    dict(type="PackSample"),
]
data = dict(
    _delete_=True,
    type="CocoDataset",
    data_root={data!r},
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017/"),
    with_masks=True,
    pipeline=load,
)
train_dataloader = dict(batch_size=4, dataset=data)
val_dataloader = dict(batch_size=8, dataset=dict(**data, test_mode=True))
test_dataloader = val_dataloader
vit = dict(type="ViT", arch="small", img_size=256, tokens=dict(cls=False), block=dict(layer_scale=1.0))
pooling = dict(finest_size=56.0)
model = dict(
    {parts}
    head=dict(
        rpn=dict(anchors=dict(scales=(2, 4)), sample=dict(num=256)),
        box=dict(pooling=pooling),
        mask=dict(pooling=pooling),
    ),
)
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=50))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, eta_min=1e-6, end={epochs}),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
"""
VITDET = """
    frozen="backbone",
    backbone=dict(
        _delete_=True,
        **vit,
        rel_pos=dict(kind="decomposed"),
        windows=dict(size=14, blocks=(0, 1, 3, 4, 6, 7, 9, 10)),
    ),
    neck=dict(_delete_=True, type="SimpleFeaturePyramid", channels=64),
"""
ADAPTER = """
    frozen="backbone.vit",
    backbone=dict(_delete_=True, type="ViTAdapter", vit=vit, deform_ratio=0.5),
    neck=dict(num_levels=5),
"""


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "epochs"), [(VITDET, 120), (ADAPTER, 60)], ids=["ViTDet", "ViT-Adapter"])
def test_sixteen_photographs_of_large_objects_are_overfitted(shared, root, dinov2_folder, tmp_path, parts, epochs):
    source = shared / "data" / "coco_real"
    ground_truth = json.loads((source / "annotations" / "instances_train2017.json").read_text())
    objects = {image["id"]: [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    # no crowds, and nothing below 32 pixels in the original, 13 at this size
    clear = {
        image
        for image, annotations in objects.items()
        if annotations and all(not a["iscrowd"] and a["bbox"][2] * a["bbox"][3] >= 32**2 for a in annotations)
    }
    images = [image for image in ground_truth["images"] if image["id"] in clear][:16]
    chosen = {image["id"] for image in images}
    part = dict(
        ground_truth, images=images, annotations=[a for a in ground_truth["annotations"] if a["image_id"] in chosen]
    )
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances_train2017.json").write_text(json.dumps(part))
    (tmp_path / "data" / "train2017").symlink_to(source / "train2017")
    config = tmp_path / "overfit.py"
    base = str(root / "configs" / "pvt_maskrcnn_scenes.py")
    config.write_text(CONFIG.format(base=base, data=str(tmp_path / "data"), epochs=epochs, parts=parts))
    command = [sys.executable, "tools/train.py", str(config), "--amp", "--work-dir", str(tmp_path / "work")]
    command += ["--pretrained", str(dinov2_folder / "model.safetensors")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"coco/bbox_AP50: ([\d.]+)", done.stdout + done.stderr)[-1]) >= 0.8
