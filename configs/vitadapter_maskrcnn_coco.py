# Mask R-CNN on ViT-Adapter-S (arXiv 2205.08534), COCO, 3x, multi-scale with crops. Published box / mask AP from DeiT's
# weights: tiny 46.0 / 41.0 (28 M), small 48.2 / 42.8 (48 M), base 49.6 / 43.6 (120 M, deform_num_heads=12,
# deform_ratio=0.5, drop_path_rate=0.3) (github.com/czczup/ViT-Adapter/tree/main/detection; 16 images a step).
_base_ = ["_base_/coco_instance_vitadapter.py", "_base_/schedule_3x.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="ViTAdapter",
        vit=dict(
            type="ViT",
            arch="small",
            tokens=dict(cls=False),
            block=dict(layer_scale=1.0),
            drop_path_rate=0.2,
            windows=dict(size=14, blocks=(0, 1, 3, 4, 6, 7, 9, 10), padding="keys"),
            init_cfg=dict(
                type="Pretrained", checkpoint="https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth"
            ),
        ),
    ),
    neck=dict(type="FPN", out_channels=256, num_levels=5),
    head=dict(type="MaskRCNNHead"),
)
optim_wrapper = dict(paramwise_cfg=dict(bias_decay_mult=0.0, custom_keys=dict(level_embed=dict(decay_mult=0.0))))
