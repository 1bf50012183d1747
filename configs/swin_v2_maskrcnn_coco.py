# Mask R-CNN on Swin V2-T, COCO, large-scale jitter (Ghiasi et al. 2021, arXiv 2012.07177) at 1024x1024, 3x. No result
# is published for these parts together. Other sizes: arch=..., and the weights of that size.
_base_ = ["_base_/coco_instance_large_scale_jitter.py", "_base_/schedule_3x.py", "_base_/runtime.py"]

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
