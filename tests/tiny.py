"""The smallest sizes of everything registered, and small inputs: what the contract tests build.

A new backbone, neck or head is tested by being registered and having a line here.
"""

import torch

from densevit.structures import DataSample, InstanceData

_STAGES = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2))
_WINDOWS = dict(embed_dim=8, depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2)
BACKBONES = {
    "PVT": [dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1)), pretrain_size=64)],
    "PVTv2": [
        dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1), linear=False)),
        dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1), linear=True)),
    ],
    "Swin": [
        dict(arch=_WINDOWS, window_size=3),
        dict(arch=_WINDOWS, window_size=(5, (4, 3), 2, 2), pretrain_size=64, pad_first=False, shift_small_maps=False),
    ],
    "SwinV2": [dict(arch=_WINDOWS, window_size=4, pretrained_window_sizes=(0, 0, 3, 3))],
}
NECKS = {
    "FPN": [
        dict(out_channels=8),
        dict(out_channels=8, num_levels=6, extra_levels="conv_on_input", relu_before_extra=True),
        dict(out_channels=8, num_levels=5, start_level=1, extra_levels="conv_on_output"),
        dict(out_channels=8, num_levels=4),
    ]
}
HEADS = {
    "RetinaNetHead": [dict(num_classes=3, feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0))],
    "MaskRCNNHead": [
        dict(
            num_classes=3,
            rpn=dict(feat_channels=8, scales=(2, 4)),
            box=dict(fc_channels=16, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8),
        )
    ],
    "CascadeHead": [
        dict(
            num_classes=3,
            rpn=dict(feat_channels=8, scales=(2, 4)),
            box=dict(fc_channels=16, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8),
        ),
        dict(
            num_classes=3,
            rpn=dict(feat_channels=8, num_convs=2, divisor="quota", scales=(2, 4), limit_shrink=False),
            box=dict(num_convs=1, conv_channels=8, norm="LN", num_fcs=1, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8, norm="LN", num_convs=1, class_agnostic=True),
            mask_each_stage=False,
            average="probabilities",
            resample=False,
            scale_gradients=True,
        ),
    ],
    "SemanticFPNHead": [dict(num_classes=3, channels=8)],
    "DepthFPNHead": [dict(max_depth=10.0, channels=8)],
}
FEATURE_CHANNELS, FEATURE_STRIDES = (8, 8, 8), (8, 16, 32)
HEAD_CHANNELS = FEATURE_CHANNELS


def model_config(classes: int = 3) -> dict:
    """A whole detector that trains in milliseconds."""
    return dict(
        type="DensePredictor",
        backbone=dict(type="PVTv2", **BACKBONES["PVTv2"][0]),
        neck=dict(type="FPN", out_channels=8, num_levels=4),
        head=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1),
        classes=[f"class {i}" for i in range(classes)],
    )


def sample(size=(64, 96), boxes=((4, 4, 40, 50), (30, 20, 90, 60)), labels=(0, 2)) -> DataSample:
    """A sample with all truth that a head may ask for."""
    data = DataSample(
        metainfo=dict(img_id=1, img_path=None, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), flip=False)
    )
    data.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.long)
    )
    data.gt_semantic = torch.full(size, 255)
    data.gt_depth = torch.zeros(size)
    data.gt_instances.masks = torch.zeros(len(data.gt_instances), *size, dtype=torch.bool)
    for i, (box, label) in enumerate(zip(boxes, labels, strict=False)):
        x1, y1, x2, y2 = map(int, box)
        data.gt_instances.masks[i, y1:y2, x1:x2] = True
        data.gt_semantic[y1:y2, x1:x2] = label
        data.gt_depth[y1:y2, x1:x2] = 1.0 + label
    return data


def batch(size=(64, 96), images: int = 2, **truth) -> dict:
    """What the collate function gives: uint8 images and samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for _ in range(images)]
    return dict(inputs=inputs, data_samples=[sample(size, **truth) for _ in range(images)])
