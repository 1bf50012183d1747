# NYU Depth V2: the 24,231 training pairs of BTS, the official 654 test pairs; 16 images a step. Crops and test images
# have sides that patches of 14 pixels divide.
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(640, 480), ratio_range=(1.0, 1.5)),
    dict(type="RandomCrop", size=(560, 448)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotometricDistortion", swap_channels=False),
    dict(type="PackSample"),
]
# after Resize: the ground truth keeps its size, as predictions are evaluated in the original image's pixels
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(644, 476), keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]

dataset = dict(type="DepthDataset", data_root="data/nyu/", depth_scale="nyu")
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(
        **dataset,
        ann_file="nyudepthv2_train_files_with_gt.txt",
        data_prefix=dict(img="sync", depth="sync"),
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
        ann_file="nyudepthv2_test_files_with_gt.txt",
        data_prefix=dict(img="official_splits/test", depth="official_splits/test"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="DepthMetric", crop="nyu_eigen", max_depth=10.0)
test_evaluator = val_evaluator
