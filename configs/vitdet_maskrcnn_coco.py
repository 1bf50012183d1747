# Mask R-CNN on a plain ViT-B/16 (ViTDet, arXiv 2203.16527), COCO, large-scale jitter at 1024x1024, 100 epochs.
# Published box / mask AP: base 51.6 / 45.9 (111 M), large 55.5 / 49.2 (331 M), huge 56.7 / 50.2 (662 M), from MAE's
# ImageNet-1K weights (github.com/facebookresearch/detectron2, projects/ViTDet; 64 images a step). large:
# drop_path_rate=0.4, decay_rate=0.8, windows in all blocks but 5, 11, 17, 23; huge: 0.5, 0.9, all but 7, 15, 23, 31.
_base_ = ["_base_/coco_instance_vitdet.py", "_base_/schedule_100ep.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", square_pad=1024),
    backbone=dict(
        type="ViT",
        arch="vitdet_base",
        final_norm=None,
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
            md5="8cad7c",
        ),
    ),
    neck=dict(type="SimpleFeaturePyramid"),
    head=dict(
        type="MaskRCNNHead",
        rpn=dict(num_convs=2),
        box=dict(num_convs=4, num_fcs=1, norm="LN"),
        mask=dict(norm="LN"),
    ),
)
train_dataloader = dict(batch_size=1)
