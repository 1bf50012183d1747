# Metric depth with DPT's fusion on PVT v2 b0 for scenes, fine-tuned from the shipped backbone in minutes on two cores.
# No published result: scenes are a test bed; their metrics are not comparable with NYU.
_base_ = ["_base_/scenes_depth.py", "_base_/schedule_scenes.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="scenes")),
    neck=dict(type="DPTFusion", channels=64),
    head=dict(type="DPTDepthHead", kind="sigmoid", max_depth=20.0),
)
