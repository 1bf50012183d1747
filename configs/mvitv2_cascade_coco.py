# Cascade Mask R-CNN on MViTv2-T (arXiv 2112.01526), COCO, 36 epochs, multi-scale with crops. Published box / mask AP:
# 52.2 / 45.0 (76 M, 701 G), small 53.2 / 46.0 (87 M, 748 G), base 54.1 / 46.7 (103 M, 814 G), from ImageNet-1K weights
# (github.com/facebookresearch/detectron2, projects/MViTv2; 64 images a step).
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
    head=dict(
        type="CascadeRCNNHead",
        rpn=dict(num_convs=2),
        box=dict(num_convs=4, num_fcs=1, norm="BN", loss=dict(smooth_l1_beta=0.0)),
        mask=dict(norm="BN"),
        mask_each_stage=False,
        stage_weights=(1.0, 1.0, 1.0),
        average="probabilities",
        resample=False,
        scale_gradients=True,
    ),
)
