# Semantic FPN on PVT v2 b0 for rendered scenes, fine-tuned from the shipped backbone in minutes on two CPU cores.
# No published result: scenes are a test bed; their metrics are not comparable with ADE20K.
_base_ = ["_base_/scenes_semantic.py", "_base_/schedule_scenes.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="scenes")),
    neck=dict(type="FPN", out_channels=64, num_levels=4),
    head=dict(type="SemanticFPNHead", channels=64),
)
