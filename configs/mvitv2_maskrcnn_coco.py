# Mask R-CNN on MViTv2-T (arXiv 2112.01526), COCO, 36 epochs, multi-scale with crops. Published box / mask AP:
# 48.3 / 43.8 (44 M, 279 G), from ImageNet-1K weights (github.com/facebookresearch/detectron2, projects/MViTv2;
# 64 images a step).
_base_ = ["_base_/coco_instance.py", "_base_/schedule_3x_64.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="MViTv2",
        arch="tiny",
        drop_path_rate=0.2,
        init_cfg=dict(
            type="Pretrained", checkpoint="https://dl.fbaipublicfiles.com/mvit/mvitv2_models/MViTv2_T_in1k.pyth"
        ),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=5),
    head=dict(type="MaskRCNNHead"),
)
short_sides = [(1333, side) for side in range(480, 801, 32)]
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomChoiceResize", scales=short_sides)],
            [
                dict(type="RandomChoiceResize", scales=[(100_000, 400), (100_000, 500), (100_000, 600)]),
                dict(type="RandomCrop", size=(384, 600), size_type="absolute_range", allow_empty=True),
                dict(type="RandomChoiceResize", scales=short_sides),
            ],
        ],
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
