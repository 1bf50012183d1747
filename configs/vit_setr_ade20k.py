# SETR-PUP on ViT-L/16, ADE20K, 512x512, 160k steps. Published mIoU (single scale): 48.2 (mmsegmentation, configs/setr;
# ImageNet-21K weights). The decoder upsamples step by step. SETR-Naive and SETR-MLA: vit_setr_naive_ade20k.py,
# vit_setr_mla_ade20k.py.
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k_sgd.py", "_base_/runtime.py"]

loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
auxiliary = dict(type="SETRHead", decoder="pup", num_convs=2, up_scale=4, losses=loss, loss_weight=0.4)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="large",
        img_size=512,
        out_indices=(9, 14, 19, 23),
        final_norm=None,
        pos_embed=dict(mode="bilinear"),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_large_p16_384-b3be5167.pth",
        ),
    ),
    head=dict(type="SETRHead", decoder="pup", in_index=3, losses=loss),
    auxiliary=[dict(**auxiliary, in_index=0), dict(**auxiliary, in_index=1), dict(**auxiliary, in_index=2)],
    inference=dict(type="SlidingWindow", window=512, stride=341),
)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0), auxiliary=dict(lr_mult=10.0))),
)
