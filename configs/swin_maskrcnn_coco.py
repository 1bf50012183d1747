# Mask R-CNN on Swin-T, COCO, 3x, multi-scale with crops. Published box / mask AP: tiny 46.0 / 41.6 (48 M, 267 G),
# small 48.5 / 43.3 (69 M, 359 G); tiny 1x (coco_instance.py, 12 epochs) 43.7 / 39.8
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
    head=dict(type="MaskRCNNHead"),
)
