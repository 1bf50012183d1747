# Scenes rendered on the fly: metric depth. The shipped weights were trained on scenes of another seed.
train_pipeline = [dict(type="RandomFlip", prob=0.5), dict(type="PackSample")]
test_pipeline = [dict(type="PackSample")]

scenes = dict(type="ScenesDataset", seed=1, size=(192, 192))
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(**scenes, images=4500, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type="EvalSampler"),
    dataset=dict(**scenes, images=300, split="val", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="DepthMetric", max_depth=20.0)
test_evaluator = val_evaluator
