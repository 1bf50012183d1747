# COCO 2017, boxes and masks, as ViTDet is trained on it: large-scale jitter (Ghiasi et al. 2021, arXiv 2012.07177) at
# 1024x1024
_base_ = "coco_instance.py"

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type="RandomCrop", size=(1024, 1024), boxes_from_masks=True, allow_empty=True),
    dict(type="PackSample"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(type="Resize", scale=(1024, 1024), keep_ratio=True),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
