"""The smallest sizes of everything registered, and small inputs: what the contract tests build.

A new backbone, neck or head is tested by being registered and having a line here.
"""

import torch

from densevit.structures import DataSample, InstanceData

_STAGES = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2))
_PLAIN = dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2)
_TAPS = dict(arch=_PLAIN, patch_size=8, img_size=32, out_indices=(0, 1, 2, 3))
_ADAPTED = dict(type="ViT", arch=_PLAIN, img_size=32, tokens=dict(cls=False))
_BRANCH = dict(conv_inplane=4, deform_num_heads=2, n_points=2, init_values=0.1)
_WINDOWS = dict(embed_dim=8, depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2)
_POOLED = dict(embed_dims=(8, 16, 24, 32), depths=(2, 2, 2, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2)
BACKBONES = {
    "PVT": [dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1)), pretrain_size=64)],
    "PVTv2": [
        dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1), linear=False)),
        dict(arch=dict(_STAGES, sr_ratios=(8, 4, 2, 1), linear=True)),
    ],
    "Swin": [
        dict(arch=_WINDOWS, window_size=3),
        dict(
            arch=_WINDOWS,
            window_size=(5, (4, 3), 2, 2),
            pretrain_size=64,
            shift=dict(pad_first=False, small_maps=False),
        ),
    ],
    "ViT": [
        dict(_TAPS, tokens=dict(dist=True, append_cls=True), final_norm="all", pos_embed=dict(prefix_rows=1)),
        dict(
            _TAPS,
            tokens=dict(registers=3),
            block=dict(layer_scale=1.0, mlp="swiglu"),
            pos_embed=dict(offset=0.1, prefix_rows=0),
        ),
        dict(
            _TAPS,
            pos_embed=dict(kind="rotary"),
            tokens=dict(registers=2, cls_norm=True, append_cls=True),
            block=dict(key_bias=False),
            final_norm="all",
        ),
        dict(_TAPS, tokens=dict(cls=False), windows=dict(size=3, blocks=(0, 1, 3)), pos_embed=dict(mode="bilinear")),
        dict(
            _TAPS,
            tokens=dict(cls=False),
            rel_pos=dict(kind="decomposed", img_size=40),
            windows=dict(size=3, blocks=(0, 2), conv_blocks=(1, 2)),
        ),
        dict(_TAPS, pos_embed=dict(kind="sincos", antialias=True), rel_pos=dict(kind="bias"), final_norm=None),
    ],
    "MViTv2": [
        dict(arch=_POOLED, img_size=64, window_size=16),
        dict(
            arch=_POOLED,
            img_size=64,
            window_size=0,
            pooling=dict(double_kv_stride=False),
            grow_in="mlp",
            output_norm=None,
        ),
        dict(
            arch=_POOLED,
            img_size=64,
            window_size=0,
            pooling=dict(kv_stride=2, class_residual=True),
            absolute_positions=True,
            class_token=True,
            output_norm=None,
        ),
    ],
    "ViTAdapter": [
        dict(
            _BRANCH,
            vit=dict(_ADAPTED, block=dict(layer_scale=1.0), windows=dict(size=(2, 3), blocks=(0, 3), padding="keys")),
        ),
        dict(_BRANCH, vit=dict(_ADAPTED, patch_size=14, img_size=28), add_vit_feature="each", deform_ratio=0.5),
        dict(
            _BRANCH,
            vit=dict(_ADAPTED, tokens=dict(cls=True, registers=2), pos_embed=dict(kind="rotary")),
            add_vit_feature=None,
            interaction_indexes=((0, 1), (2, 3)),
            with_cffn=False,
            use_extra_extractor=False,
        ),
    ],
    "TimmBackbone": [
        dict(name="test_convnext"),
        dict(name="test_vit", out_indices=(0, 1, 2, 3), norm=True),
    ],
    "SwinV2": [dict(arch=_WINDOWS, window_size=4, pretrained_window_sizes=(0, 0, 3, 3))],
}
NECKS = {
    "FPN": [
        dict(out_channels=8),
        dict(out_channels=8, num_levels=6, extra_levels="conv_on_input", relu_before_extra=True),
        dict(out_channels=8, num_levels=5, start_level=1, extra_levels="conv_on_output"),
        dict(out_channels=8, num_levels=4),
    ],
    "UPerNet": [dict(channels=8), dict(channels=8, pool_scales=(2, 5), align_corners=True)],
    "MultiLevelNeck": [
        dict(in_channels=(16,) * 4, in_strides=(16,) * 4),
        dict(in_channels=(16,), in_strides=(14,), channels=8, scales=(4, 2, 0.5)),
    ],
    "SimpleFeaturePyramid": [
        dict(in_channels=(16,), in_strides=(16,), channels=8),
        dict(in_channels=(16,), in_strides=(8,), channels=8, scales=(2, 0.5), top_level=False),
    ],
    "Feature2Pyramid": [
        dict(in_channels=(16,) * 4, in_strides=(16,) * 4),
        dict(in_channels=(8, 16), in_strides=(14, 14), scales=(2, 0.25)),
    ],
    "MLANeck": [
        dict(in_channels=(8, 8, 16), in_strides=(16,) * 3, channels=8),
        dict(in_channels=(8, 8), in_strides=(16,) * 2, channels=8, norm=None),
    ],
    "DPTReassemble": [
        dict(in_channels=(16,) * 4, in_strides=(16,) * 4, channels=(4, 8, 16, 16)),
        dict(in_channels=(16,) * 4, in_strides=(14,) * 4, channels=(4, 8, 16, 16), readout="project"),
        dict(in_channels=(16, 8), in_strides=(16,) * 2, channels=(4, 8), readout="add", scales=(2, 0.25)),
    ],
    "DPTFusion": [
        dict(channels=8),
        dict(channels=8, norm="BN", conv_bias=True),
        dict(channels=8, in_channels=(8, 16), in_strides=(3.5, 14), norm="BN"),
    ],
}
_ONE_MAP = dict(num_classes=3, in_channels=(8,), in_strides=(16,))
_ONE_DEPTH = dict(in_channels=(8,), in_strides=(2,))
HEADS = {
    "RetinaNetHead": [dict(num_classes=3, feat_channels=8, stacked_convs=1, test=dict(score_thr=0.0))],
    "MaskRCNNHead": [
        dict(
            num_classes=3,
            rpn=dict(feat_channels=8, anchors=dict(scales=(2, 4))),
            box=dict(fc_channels=16, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8),
        )
    ],
    "CascadeRCNNHead": [
        dict(
            num_classes=3,
            rpn=dict(feat_channels=8, anchors=dict(scales=(2, 4))),
            box=dict(fc_channels=16, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8),
        ),
        dict(
            num_classes=3,
            rpn=dict(
                feat_channels=8,
                num_convs=2,
                anchors=dict(scales=(2, 4)),
                coder=dict(limit_shrink=False),
                loss=dict(divisor="quota"),
            ),
            box=dict(num_convs=1, conv_channels=8, norm="LN", num_fcs=1, test=dict(score_thr=0.0, max_per_image=20)),
            mask=dict(channels=8, norm="LN", num_convs=1, class_agnostic=True),
            mask_each_stage=False,
            average="probabilities",
            resample=False,
            scale_gradients=True,
        ),
    ],
    "SemanticFPNHead": [
        dict(num_classes=3, channels=8),
        dict(num_classes=3, channels=8, losses=[dict(type="DiceLoss"), dict(type="FocalLoss")], align_corners=True),
    ],
    "FCNHead": [
        dict(_ONE_MAP, channels=8),
        dict(_ONE_MAP, num_convs=0, losses=dict(type="BinaryCrossEntropyLoss")),
        dict(_ONE_MAP, channels=4, num_convs=2, kernel_size=1, concat_input=True, norm=None, loss_weight=0.4),
    ],
    "SETRHead": [
        dict(_ONE_MAP, channels=8, decoder="naive"),
        dict(_ONE_MAP, channels=8, decoder="pup"),
        dict(_ONE_MAP, channels=8, decoder="pup", num_convs=2, up_scale=4),
        dict(num_classes=3, in_channels=(8,) * 3, in_strides=(16,) * 3, channels=8, decoder="mla"),
    ],
    "SegmenterHead": [
        dict(_ONE_MAP, losses=dict(type="CrossEntropyLoss", ohem=dict(thresh=0.7, min_kept=50))),
        dict(_ONE_MAP, num_layers=1, embed_dim=16, num_heads=4, drop_path=0.0),
    ],
    "DPTHead": [
        dict(_ONE_MAP, in_strides=(2,)),
        dict(_ONE_MAP, in_strides=(2,), norm=None, doubled=True, align_corners=True),
    ],
    "FPNDepthHead": [dict(max_depth=10.0, channels=8), dict(max_depth=10.0, min_depth=1, channels=8, kind="bins")],
    "DPTDepthHead": [
        dict(_ONE_DEPTH),
        dict(_ONE_DEPTH, kind="sigmoid", max_depth=20.0, channels=8, losses=[dict(type="DepthL1Loss")] * 2),
        dict(_ONE_DEPTH, kind="bins", max_depth=80.0, bins=8, projection=True, doubled=True, align_corners=True),
        dict(_ONE_DEPTH, kind="inverse", inverse=(0.1, 0.1)),
    ],
    "GradualDepthHead": [
        dict(in_channels=(8,), in_strides=(16,), max_depth=10.0, channels=(8, 8, 4, 4)),
    ],
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
    """A sample with all ground truth that a head may ask for."""
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


def batch(size=(64, 96), images: int = 2, **ground_truth) -> dict:
    """What the collate function gives: uint8 images and samples."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for _ in range(images)]
    return dict(inputs=inputs, data_samples=[sample(size, **ground_truth) for _ in range(images)])
