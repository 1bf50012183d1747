# RetinaNet on PVT-tiny, COCO, 1x. Published box AP: tiny 36.7, small 40.4, medium 41.9, large 42.6
# (github.com/whai362/PVT, detection/README.md; 8 machines x 2 images, ImageNet weights). Another size: arch=...
_base_ = ["_base_/coco_detection.py", "_base_/schedule_1x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVT",
        arch="tiny",
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth"),
    ),
    neck=dict(type="FPN", out_channels=256, start_level=1, num_levels=5, extra_levels="conv_on_input"),
    head=dict(type="RetinaNetHead"),
)
