# UPerNet on ViT-Adapter-S (arXiv 2205.08534), ADE20K, 512x512, 160k steps. Published mIoU (single scale) from DeiT's
# weights: tiny 42.6 (36 M), small 46.2 (58 M), base 48.8 (134 M, deform_num_heads=12, deform_ratio=0.5,
# drop_path_rate=0.3) (github.com/czczup/ViT-Adapter/tree/main/segmentation; 16 images a step).
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

loss = dict(type="CrossEntropyLoss", avg_non_ignore=False)
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", train_size=(512, 512)),
    backbone=dict(
        type="ViTAdapter",
        add_vit_feature="each",
        vit=dict(
            type="ViT",
            arch="small",
            tokens=dict(cls=False),
            drop_path_rate=0.2,
            init_cfg=dict(
                type="Pretrained", checkpoint="https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth"
            ),
        ),
    ),
    neck=dict(type="UPerNet", channels=512),
    head=dict(type="FCNHead", num_convs=0, losses=loss),
    auxiliary=[dict(type="FCNHead", in_index=2, channels=256, losses=loss, loss_weight=0.4)],
    inference=dict(type="SlidingWindow", window=512, stride=341),
)
optim_wrapper = dict(constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(decay_rate=0.95))
