# Segmenter with a mask transformer on ViT-S/16, ADE20K, 512x512, 160k steps at 8 images a step. Published mIoU (single
# scale): tiny 38.1 (7 M), small 45.3 (27 M), base 48.5 (106 M), large 51.8 at 640x640 (334 M), small with a linear
# decoder 45.8 (github.com/rstrudel/segmenter; ImageNet-21K weights, mmsegmentation's form of them).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k_sgd.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(
        type="Preprocessor", mean=(127.5,) * 3, std=(127.5,) * 3, size_divisor=1, train_size=(512, 512)
    ),
    backbone=dict(
        type="ViT",
        arch="small",
        img_size=512,
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segmenter/vit_small_p16_384_20220308-410f6037.pth",
        ),
    ),
    # the linear decoder: dict(type="FCNHead", num_convs=0, dropout=0.0, losses=...)
    head=dict(type="SegmenterHead", losses=dict(type="CrossEntropyLoss", avg_non_ignore=False)),
    inference=dict(type="SlidingWindow", window=512, stride=480),
)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
