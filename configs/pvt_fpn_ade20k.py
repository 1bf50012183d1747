# Semantic FPN on PVT, ADE20K, 512x512, 40k steps at 32 images a step. Published mIoU (single scale): tiny 36.6, small
# 41.9, medium 43.5, large 43.5 (github.com/whai362/PVT, segmentation/; 8 machines x 4 images, ImageNet weights).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", train_size=(512, 512)),
    backbone=dict(
        type="PVT",
        arch="tiny",
        init_cfg=dict(type="Pretrained", checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth"),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=4),
    head=dict(type="SemanticFPNHead", losses=dict(type="CrossEntropyLoss", avg_non_ignore=False)),
)
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=40_000, val_interval=4000)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, end=40_000)]
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=32)
