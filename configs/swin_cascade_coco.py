# Cascade Mask R-CNN on Swin-T, COCO, 3x, multi-scale with crops. Published box / mask AP: tiny 50.4 / 43.7
# (86 M, 745 G); base, with drop_path_rate=0.3, 51.9 / 45.0 (145 M, 982 G)
# (github.com/SwinTransformer/Swin-Transformer-Object-Detection; 8 machines x 2 images, ImageNet weights).
_base_ = ["_base_/coco_instance_swin.py", "_base_/schedule_3x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="Swin",
        arch="tiny",
        drop_path_rate=0.2,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth",
            sha256="9f71c168d837d1b99dd1dc29e14990a7a9e8bdc5f673d46b04fe36fe15590ad3",
        ),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=5),
    head=dict(
        type="CascadeRCNNHead",
        box=dict(num_convs=4, num_fcs=1, norm="BN", class_agnostic=False, loss=dict(kind="giou", box_weight=10.0)),
    ),
)
