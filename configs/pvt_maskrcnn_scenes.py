# A small Mask R-CNN on PVT v2 b0 for rendered scenes, fine-tuned from the shipped backbone in minutes on two CPU cores.
# No published result: scenes are a test bed; their metrics are not comparable with COCO.
_base_ = ["_base_/scenes_instance.py", "_base_/schedule_scenes.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="scenes")),
    neck=dict(type="FPN", out_channels=64, num_levels=4),
    head=dict(
        type="MaskRCNNHead",
        rpn=dict(
            feat_channels=64,
            anchors=dict(scales=(4,)),
            sample=dict(num=128),
            train=dict(nms_pre=300, max_per_image=300),
            test=dict(nms_pre=300, max_per_image=200),
        ),
        box=dict(pooling=dict(finest_size=28.0), fc_channels=256, sample=dict(num=64)),
        mask=dict(pooling=dict(finest_size=28.0), channels=64),
    ),
)
