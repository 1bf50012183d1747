# Mask R-CNN on PVT-tiny, COCO, 1x. Published box / mask AP: tiny 36.7 / 35.1, small 40.4 / 37.8, medium 42.0 / 39.0,
# large 42.9 / 39.5 (github.com/whai362/PVT, detection/README.md; 8 machines x 2 images, ImageNet weights).
_base_ = ["_base_/coco_instance.py", "_base_/schedule_1x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVT",
        arch="tiny",
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth"),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=5),
    head=dict(type="MaskRCNNHead"),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
