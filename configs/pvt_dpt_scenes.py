# Metric depth by DPT's fusion on PVT v2 b0 for rendered scenes, from the shipped backbone: minutes on two CPU cores.
# No published result: scenes are a test bed, and no result on them is one on NYU.
_base_ = ["_base_/scenes_depth.py", "_base_/schedule_scenes.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="scenes")),
    neck=dict(type="DPTFusion", channels=64),
    head=dict(type="DPTDepthHead", kind="sigmoid", max_depth=20.0),
)
