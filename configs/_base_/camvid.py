# CamVid's 11 classes: folders images/SPLIT and labels/SPLIT below data_root, 480x360 pixels; 4 images a step. Crops
# and test images have sides that patches of 14 pixels divide. Any folder of images and PNG maps is described like
# this, with a class file as `classes`: see docs/data.md.
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(640, 480), ratio_range=(0.75, 1.5)),
    dict(type="RandomCrop", size=(476, 350), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotometricDistortion", hue=36, swap_channels=False),
    dict(type="PackSample"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(644, 490), keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]

dataset = dict(type="SemanticDataset", classes="camvid", data_root="data/camvid/")
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(**dataset, data_prefix=dict(img="images/train", seg="labels/train"), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=1,
    sampler=dict(type="EvalSampler"),
    dataset=dict(
        **dataset, data_prefix=dict(img="images/test", seg="labels/test"), pipeline=test_pipeline, test_mode=True
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="SemanticMetric")
test_evaluator = val_evaluator
