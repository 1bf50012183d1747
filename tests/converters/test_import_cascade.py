"""microsoft's Cascade on Swin: mmdetection 2.x around their own backbone, with its older names of options."""

import pytest
import torch

from densevit import import_model
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.key_mapping import invert, remap
from densevit.registry import MODELS

SIZES = dict(embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2])
TEXT = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(1333, 800),
    flip=False, transforms=[dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32)])]))
box = dict(type='ConvFCBBoxHead', num_shared_convs=4, num_shared_fcs=1, in_channels=8, conv_out_channels=8,
    fc_out_channels=16, roi_feat_size=7, num_classes=2, reg_class_agnostic=False, reg_decoded_bbox=True,
    norm_cfg=dict(type='SyncBN', requires_grad=True), loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0))
region = dict(sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
    mask_size=28, pos_weight=-1, debug=False)
proposals = dict(nms_across_levels=False, nms_pre=1000, nms_post=1000, max_per_img=1000,
    nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
model = dict(type='CascadeRCNN', pretrained=None,
    backbone=dict(type='SwinTransformer', embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=7,
        mlp_ratio=4., qkv_bias=True, qk_scale=None, drop_rate=0., attn_drop_rate=0., drop_path_rate=0.2, ape=False,
        patch_norm=True, out_indices=(0, 1, 2, 3), use_checkpoint=False),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
    rpn_head=dict(type='RPNHead', in_channels=8, feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)),
    roi_head=dict(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 0.5],
        bbox_roi_extractor=dict(type='SingleRoIExtractor', out_channels=8, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
        bbox_head=[
            dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]), **box),
            dict(bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.05, 0.05, 0.1, 0.1]), **box)],
        mask_roi_extractor=dict(type='SingleRoIExtractor', out_channels=8, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0)),
        mask_head=dict(type='FCNMaskHead', num_convs=4, in_channels=8, conv_out_channels=8, num_classes=2,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(
        rpn=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3,
                match_low_quality=True, ignore_iof_thr=-1), allowed_border=0, pos_weight=-1, debug=False,
            sampler=dict(type='RandomSampler', num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False)),
        rpn_proposal=proposals,
        rcnn=[
            dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
                match_low_quality=False, ignore_iof_thr=-1), **region),
            dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6,
                match_low_quality=False, ignore_iof_thr=-1), **region)]),
    test_cfg=dict(rpn=proposals, rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100,
        mask_thr_binary=0.5)))
"""


def test_a_cascade_of_2x_around_microsofts_swin_opens(tmp_path):
    stages = [dict(coder=dict(stds=stds)) for stds in ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1))]
    box = dict(num_convs=4, num_fcs=1, conv_channels=8, fc_channels=16, norm="BN", class_agnostic=False)
    ours = MODELS.build(
        dict(
            type="DensePredictor",
            backbone=dict(type="Swin", arch=dict(SIZES, mlp_ratio=4), window_size=7),
            neck=dict(type="FPN", out_channels=8),
            head=dict(
                type="CascadeRCNNHead",
                num_classes=2,
                rpn=dict(feat_channels=8),
                box=box,
                stages=stages,
                stage_weights=(1, 0.5),
                mask=dict(channels=8),
            ),
        )
    )
    theirs = {f"backbone.{key}": value for key, value in ours.backbone.state_dict().items()}
    theirs["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    neck = remap(ours.neck.state_dict(), invert(ARCHITECTURES["FPN"].keys["mmdet"]))
    head = remap(ours.head.state_dict(), invert(ARCHITECTURES["CascadeRCNNHead"].keys["mmdet"]))
    assert not neck.unknown + head.unknown
    theirs |= {f"neck.{key}": value for key, value in neck.state.items()} | {
        # a network of one convolution has no number before it
        key.replace("rpn_conv.0.conv", "rpn_conv"): value
        for key, value in head.state.items()
    }
    assert "roi_head.bbox_head.1.shared_convs.3.bn.running_var" in theirs
    torch.save({"meta": {"config": TEXT, "CLASSES": ("cat", "dog")}, "state_dict": theirs}, tmp_path / "epoch_36.pth")
    imported = import_model(tmp_path / "epoch_36.pth")
    model = imported.model
    assert model.classes == ("cat", "dog")
    assert imported.test_size == (1333, 800)
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in model.state_dict().items())
    first, last = model.head.boxes
    assert (first.loss_options["kind"], first.loss_options["box_weight"]) == ("giou", 10.0)
    assert last.assign["pos_iou"] == 0.6
    assert last.coder["stds"] == pytest.approx((0.05, 0.05, 0.1, 0.1))
    assert model.head.stage_weights == (1, 0.5)
    assert model.head.rpn.allowed_border == 0
    assert model.head.rpn.train_proposals["nms_pre"] == 1000
