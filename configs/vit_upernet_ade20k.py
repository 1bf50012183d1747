# UPerNet on a plain ViT-B/16 through a multi-level neck, ADE20K, 512x512, 160k steps. Published mIoU (single scale):
# ViT-B 47.7 with ImageNet-21K weights, DeiT-B 45.4, DeiT-S 43.5 (mmsegmentation, configs/vit: ln_mln; 8 x 2 images).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="base",
        img_size=512,
        out_indices=(2, 5, 8, 11),
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth",
        ),
    ),
    neck=[dict(type="MultiLevelNeck", ceil_mode=False), dict(type="UPerNet", channels=512)],
    head=dict(type="FCNHead", num_convs=0, losses=loss),
    auxiliary=[dict(type="FCNHead", in_index=3, neck_index=1, channels=256, losses=loss, loss_weight=0.4)],
)
