# Scenes rendered on the fly: 18 semantic classes. The shipped weights were trained on scenes of another seed.
train_pipeline = [dict(type="RandomFlip", prob=0.5), dict(type="PackSample")]
test_pipeline = [dict(type="PackSample")]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ScenesDataset", images=3000, seed=1, size=(192, 192), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type="EvalSampler"),
    dataset=dict(
        type="ScenesDataset",
        images=300,
        seed=1,
        split="val",
        size=(192, 192),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="SemanticMetric")
test_evaluator = val_evaluator
