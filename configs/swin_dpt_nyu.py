# DPT's fusion on the pyramid of Swin-T, NYU Depth V2; no published result for this combination.
_base_ = ["_base_/nyu.py", "_base_/schedule_depth.py", "_base_/runtime.py"]

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
    neck=dict(type="DPTFusion", channels=256),
    head=dict(type="DPTDepthHead", kind="sigmoid", max_depth=10.0),
)
