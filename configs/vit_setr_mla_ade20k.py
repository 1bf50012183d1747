# SETR-MLA on ViT-L/16, ADE20K, 512x512, 160k steps. Published mIoU (single scale): 47.5 (mmsegmentation, configs/setr;
# ImageNet-21K weights). The decoder adds up the maps of four blocks (multi-level aggregation).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k_sgd.py", "_base_/runtime.py"]

loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
auxiliary = dict(type="FCNHead", neck_index=1, num_convs=0, dropout=0.0, losses=loss, loss_weight=0.4)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="large",
        img_size=512,
        out_indices=(5, 11, 17, 23),
        tokens=dict(cls=False),
        final_norm=None,
        pos_embed=dict(mode="bilinear"),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_large_p16_384-b3be5167.pth",
        ),
    ),
    neck=dict(type="MLANeck"),
    head=dict(type="SETRHead", decoder="mla", in_index=(0, 1, 2, 3), losses=loss),
    auxiliary=[
        dict(**auxiliary, in_index=0),
        dict(**auxiliary, in_index=1),
        dict(**auxiliary, in_index=2),
        dict(**auxiliary, in_index=3),
    ],
    inference=dict(type="SlidingWindow", window=512, stride=341),
)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0), auxiliary=dict(lr_mult=10.0))),
)
