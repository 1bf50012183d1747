# COCO 2017, boxes and masks, as MViTv2's detectors are trained on it: several sizes, half of the images cropped. The
# long side is not limited before a crop.
_base_ = ["coco_instance.py", "pipelines/multiscale_crop.py"]

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(
        type="RandomChoice",
        transforms=[
            [_base_.short_sides],
            [
                dict(type="RandomChoiceResize", scales=[(100_000, 400), (100_000, 500), (100_000, 600)]),
                _base_.random_crop,
                _base_.short_sides,
            ],
        ],
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
