# COCO 2017, boxes and masks, as ViT-Adapter's detectors are trained on it: several sizes, half of the images cropped,
# all at most 1024x1024
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
                dict(type="RandomChoiceResize", scales=[(1333, 400), (1333, 500), (1333, 600)]),
                _base_.random_crop,
                _base_.short_sides,
            ],
        ],
    ),
    dict(type="RandomCrop", size=(1024, 1024), size_type="absolute_range", allow_empty=True),
    dict(type="PackSample"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
