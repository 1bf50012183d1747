# DPT on ViT-B/16, ADE20K, 512x512, 160k steps. Published mIoU (single scale): 47.0 (mmsegmentation, configs/dpt;
# ImageNet-21K weights; 8 machines x 2 images).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="base",
        out_indices=(2, 5, 8, 11),
        final_norm=None,
        block=dict(norm_eps=1e-5),
        tokens=dict(append_cls=True),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth",
        ),
    ),
    neck=[
        dict(type="DPTReassemble", channels=(96, 192, 384, 768), readout="project"),
        dict(type="DPTFusion", norm="BN", conv_bias=False, fit="skip"),
    ],
    head=dict(type="DPTHead", losses=dict(type="CrossEntropyLoss", avg_non_ignore=False)),
)
