# RetinaNet on PVT v2 b0, COCO, 1x. Published box AP: b0 37.2, b1 41.2, b2 44.6, b2_li 43.6, b3 45.9, b4 46.1, b5 46.2
# (github.com/whai362/PVT, detection/README.md; 8 machines x 2 images, ImageNet weights). Another size: arch=...
_base_ = ["_base_/coco_detection.py", "_base_/schedule_1x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="PVTv2",
        arch="b0",
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained", checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b0.pth"
        ),
    ),
    neck=dict(type="FPN", out_channels=256, start_level=1, num_levels=5, extra_levels="conv_on_input"),
    head=dict(type="RetinaNetHead"),
)
