# A small RetinaNet on PVT v2 b0 for rendered scenes, fine-tuned from the shipped backbone in minutes on two CPU cores.
# No published result: scenes are a test bed; their metrics are not comparable with COCO.
_base_ = ["_base_/scenes_detection.py", "_base_/schedule_scenes.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="scenes")),
    neck=dict(type="FPN", out_channels=64, start_level=1, num_levels=4),
    head=dict(type="RetinaNetHead", feat_channels=64, stacked_convs=2, anchors=dict(octave_base_scale=2)),
)
