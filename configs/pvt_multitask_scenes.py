# Boxes, semantic classes and depth in one pass: PVT v2 b0, one FPN, three heads; on rendered scenes.
# No published result: scenes are a test bed. The metrics of the shipped weights are in the README's model table.
_base_ = ["_base_/scenes_multitask.py", "_base_/schedule_multitask.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch="b0"),
    neck=dict(type="FPN", out_channels=64, num_levels=5),
    head=dict(
        boxes=dict(
            type="RetinaNetHead",
            feat_channels=64,
            stacked_convs=2,
            anchors=dict(octave_base_scale=2),
            in_index=(1, 2, 3, 4),
        ),
        classes=dict(type="SemanticFPNHead", channels=64, loss_weight=0.5, in_index=(0, 1, 2, 3)),
        depth=dict(type="FPNDepthHead", channels=64, max_depth=20.0, in_index=(0, 1, 2, 3)),
    ),
)
default_hooks = dict(checkpoint=dict(interval=250))
