# Mask R-CNN on Swin V2-T, COCO, large-scale jitter (Ghiasi et al. 2021, arXiv 2012.07177) at 1024x1024, 3x. No
# published result for this combination. Other sizes: arch=..., and the weights of that size.
_base_ = ["_base_/coco_instance.py", "_base_/schedule_3x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="SwinV2",
        arch="tiny",
        drop_path_rate=0.2,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v2.0.0/swinv2_tiny_patch4_window8_256.pth",
        ),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=5),
    head=dict(type="MaskRCNNHead"),
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type="RandomCrop", size=(1024, 1024), boxes_from_masks=True, allow_empty=True),
    dict(type="Pad", size=(1024, 1024)),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
