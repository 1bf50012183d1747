# KITTI depth, Eigen's split in BTS's folders: KB crop of 1216 x 352, metrics in Garg's crop to 80 m; 16 images a step
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations"),
    dict(type="KBCrop"),
    dict(type="RandomCrop", size=(704, 352)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotometricDistortion", swap_channels=False),
    dict(type="PackSample"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="KBCrop"),
    dict(type="LoadAnnotations"),
    dict(type="PackSample"),
]

dataset = dict(type="DepthDataset", data_root="data/kitti/", depth_scale="kitti")
folders = dict(img="", depth="data_depth_annotated")
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="TrainSampler"),
    dataset=dict(**dataset, ann_file="eigen_train_files_with_gt.txt", data_prefix=folders, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="EvalSampler"),
    dataset=dict(
        **dataset,
        ann_file="eigen_test_files_with_gt.txt",
        data_prefix=folders,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="DepthMetric", crop="garg", max_depth=80.0)
test_evaluator = val_evaluator
