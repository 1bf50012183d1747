# Mask R-CNN on MViTv2-T (arXiv 2112.01526), COCO, 36 epochs, multi-scale with crops. Published box / mask AP:
# 48.3 / 43.8 (44 M, 279 G), from ImageNet-1K weights (github.com/facebookresearch/detectron2, projects/MViTv2;
# 64 images a step).
_base_ = ["_base_/coco_instance_mvitv2.py", "_base_/schedule_3x_64.py", "_base_/runtime.py"]

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
