# COCO 2017, boxes and masks, as Swin's detectors are trained on it: several sizes, half of the images cropped
_base_ = ["coco_instance.py", "pipelines/multiscale_crop.py"]

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadAnnotations", with_masks=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [_base_.short_sides],
            [
                dict(type="RandomChoiceResize", scales=[(4200, 400), (4200, 500), (4200, 600)]),
                _base_.random_crop,
                _base_.short_sides,
            ],
        ],
    ),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
