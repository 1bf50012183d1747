# Cascade Mask R-CNN on a plain ViT-B/16 (ViTDet, arXiv 2203.16527), COCO, large-scale jitter at 1024x1024, 100 epochs.
# Published box / mask AP: base 54.0 / 46.7, large 57.6 / 50.0, huge 58.7 / 51.0, from MAE's ImageNet-1K weights
# (github.com/facebookresearch/detectron2, projects/ViTDet; 64 images a step; sizes: see vitdet_maskrcnn_coco.py).
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
        type="CascadeRCNNHead",
        rpn=dict(num_convs=2),
        box=dict(num_convs=4, num_fcs=1, norm="LN", loss=dict(smooth_l1_beta=0.0)),
        mask=dict(norm="LN"),
        mask_each_stage=False,
        stage_weights=(1.0, 1.0, 1.0),
        average="probabilities",
        resample=False,
        scale_gradients=True,
    ),
)
train_dataloader = dict(batch_size=1)
