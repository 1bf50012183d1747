# UPerNet on Swin, ADE20K, 512x512, 160k steps. Published mIoU (single scale): tiny 44.5 (60 M, 945 G at 2048x512),
# small 47.6 (81 M, 1038 G), base 48.1 (121 M, 1188 G) with ImageNet-1K weights
# (github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation; 8 machines x 2 images).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="Swin",
        arch="tiny",
        drop_path_rate=0.3,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth",
            sha256="9f71c168d837d1b99dd1dc29e14990a7a9e8bdc5f673d46b04fe36fe15590ad3",
        ),
    ),
    neck=dict(type="UPerNet", channels=512),
    head=dict(type="FCNHead", num_convs=0, losses=loss),
    auxiliary=[dict(type="FCNHead", in_index=2, channels=256, losses=loss, loss_weight=0.4)],
)
