# SETR on ViT-L/16, ADE20K, 512x512, 160k steps. Published mIoU (single scale): naive 48.3, pup 48.2, mla 47.5
# (mmsegmentation, configs/setr; ImageNet-21K weights). `decoder` is the line to change.
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k_sgd.py", "_base_/runtime.py"]

decoder = "pup"  # 'naive', 'pup' or 'mla'
loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
mla = decoder == "mla"
side = dict(type="FCNHead", neck_index=1, num_convs=0, dropout=0.0)  # of mla's four maps, else of three blocks
if not mla:
    side = dict(type="SETRHead", decoder=decoder, num_convs=2, up_scale=4)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="large",
        img_size=512,
        out_indices=(5, 11, 17, 23) if mla else (9, 14, 19, 23),
        class_token=not mla,
        final_norm=None,
        table_mode="bilinear",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_large_p16_384-b3be5167.pth",
        ),
    ),
    neck=dict(type="MLANeck") if mla else None,
    head=dict(type="SETRHead", decoder=decoder, in_index=(0, 1, 2, 3) if mla else 3, losses=loss),
    auxiliary=[dict(**side, in_index=i, losses=loss, loss_weight=0.4) for i in range(4 if mla else 3)],
    inference=dict(type="SlidingWindow", window=512, stride=341),
)
optim_wrapper = dict(
    optimizer=dict(lr=0.01 if decoder == "naive" else 0.001),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0), auxiliary=dict(lr_mult=10.0))),
)
