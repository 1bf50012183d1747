# ADE20K's 150 classes (SceneParsing format): 512x512 crops of images resized 0.5 to 2 times, photometric distortion; 16
# images a step on one or more machines. As in mmsegmentation, with `cat_max_ratio` from DeepLab's recipes.
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0)),
    dict(type="RandomCrop", size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotometricDistortion", hue=36, swap_channels=False),
    dict(type="PackSample"),
]
# after Resize: the ground truth keeps its size, as predictions are evaluated in the original image's pixels
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]

dataset = dict(type="SemanticDataset", classes="ade20k", data_root="data/ADEChallengeData2016/")
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        **dataset,
        data_prefix=dict(img="images/training", seg="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="EvalSampler"),
    dataset=dict(
        **dataset,
        data_prefix=dict(img="images/validation", seg="annotations/validation"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="SemanticMetric")
test_evaluator = val_evaluator
