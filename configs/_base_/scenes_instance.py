# Scenes rendered on the fly: boxes and masks. The shipped weights were trained on scenes of another seed.
train_pipeline = [dict(type="RandomFlip", prob=0.5), dict(type="PackSample")]
# scenes have this size; other images are resized to it
test_pipeline = [dict(type="Resize", scale=(192, 192), keep_ratio=True), dict(type="PackSample")]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(type="ScenesDataset", images=5000, seed=1, size=(192, 192), with_masks=True, pipeline=train_pipeline),
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
        with_masks=True,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="CocoMetric", metric=["bbox", "segm"])
test_evaluator = val_evaluator
