"""Checkpoints of ViT-Adapter's repository: numbers of its own code, whole models around it, pretrained ViTs inside."""

import pytest
import torch
from parity.case import Case, read_case

from densevit import import_model
from densevit.converters import build, load_weights, translate
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.config_spec import UnsupportedModelError
from densevit.converters.key_mapping import invert, remap
from densevit.errors import CheckpointError, ConfigError
from densevit.models.backbones.vit_adapter import ViTAdapter
from densevit.registry import MODELS

BACKBONE = """dict(type='ViTAdapter', patch_size=16, embed_dim=16, depth=4, num_heads=2, mlp_ratio=2,
        drop_path_rate=0.2, conv_inplane=4, n_points=2, deform_num_heads=2, cffn_ratio=0.25, deform_ratio=0.5,
        pretrain_size=64, img_size=64, interaction_indexes=[[0, 0], [1, 1], [2, 2], [3, 3]],
        window_attn=[True, True, False, True], window_size=[3, 3, None, 2])"""
DETECTOR = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(1333, 800),
    flip=False, transforms=[dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32)])]))
proposals = dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
model = dict(type='MaskRCNN', pretrained=None, backbone=BACKBONE,
    neck=dict(type='FPN', in_channels=[16, 16, 16, 16], out_channels=8, num_outs=5),
    rpn_head=dict(type='RPNHead', in_channels=8, feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    roi_head=dict(type='StandardRoIHead',
        bbox_roi_extractor=dict(type='SingleRoIExtractor', out_channels=8, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)),
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16, roi_feat_size=7, num_classes=2,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]), reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(type='SingleRoIExtractor', out_channels=8, featmap_strides=[4, 8, 16, 32],
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0)),
        mask_head=dict(type='FCNMaskHead', num_convs=4, in_channels=8, conv_out_channels=8, num_classes=2,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    test_cfg=dict(rpn=proposals, rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100,
        mask_thr_binary=0.5)))
"""
SEGMENTOR = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(2048, 512),
    flip=False, transforms=[dict(type='Resize', keep_ratio=True), dict(type='ResizeToMultiple', size_divisor=32),
    dict(type='Normalize', **img_norm_cfg)])]))
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(type='EncoderDecoder', pretrained='pretrained/deit_small_patch16_224-cd65a155.pth', backbone=BACKBONE,
    decode_head=dict(type='UPerHead', in_channels=[16, 16, 16, 16], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
        channels=8, dropout_ratio=0.1, num_classes=3, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(type='FCNHead', in_channels=16, in_index=2, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=0.1, num_classes=3, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(), test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(42, 42)))
"""


@pytest.mark.parametrize("name", ["det", "det_base", "seg"])
def test_maps_are_those_of_the_repositorys_own_code(shared, name):
    case = read_case(shared / "parity", f"czczup_vit_adapter_{name}")
    state = Case(shared / "parity" / f"czczup_vit_adapter_{name}.json").state()
    model = build("czczup", case.model, names=state).eval()
    report = load_weights(model, state)
    assert (report.scheme, report.ignored) == ("vit_adapter", [])
    with torch.no_grad():
        for i, image in enumerate(model(case.inputs["image"])):
            assert case.error(f"c{i + 1}", image.numpy()) < 1e-5


def under_their_names(part: torch.nn.Module, source: str, prefix: str) -> dict[str, torch.Tensor]:
    """A part's weights as a file of the repository has them: with a row for the class token that it does not use."""
    renamed = remap(part.state_dict(), invert(ARCHITECTURES[type(part).__name__].keys[source]))
    assert not renamed.unknown
    state = {prefix + key: value for key, value in renamed.state.items()}
    if f"{prefix}pos_embed" in state:
        table = state[f"{prefix}pos_embed"]
        state[f"{prefix}pos_embed"] = torch.cat((torch.full_like(table[:, :1], 9.0), table), 1)
    return state


def drawn(config: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def adapter(**options) -> dict:
    """BACKBONE in our terms."""
    vit = dict(
        type="ViT", arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2), img_size=64, tokens=dict(cls=False)
    )
    windows = dict(blocks=(0, 1, 3), size=(3, 3, 2), padding="keys")
    small = dict(conv_inplane=4, n_points=2, deform_num_heads=2, deform_ratio=0.5)
    return dict(
        type="ViTAdapter",
        vit=dict(vit, windows=windows, block=dict(layer_scale=options.pop("layer_scale"))),
        **small,
        **options,
    )


def test_a_mask_rcnn_of_the_detection_code_opens(tmp_path):
    head = dict(
        type="MaskRCNNHead", num_classes=2, rpn=dict(feat_channels=8), box=dict(fc_channels=16), mask=dict(channels=8)
    )
    backbone = adapter(layer_scale=1.0)
    ours = drawn(dict(type="DensePredictor", backbone=backbone, neck=dict(type="FPN", out_channels=8), head=head))
    theirs = under_their_names(ours.backbone, "vit_adapter", "backbone.")
    theirs |= under_their_names(ours.neck, "mmdet", "neck.") | under_their_names(ours.head, "mmdet", "")
    theirs = {key.replace("rpn_conv.0.conv", "rpn_conv"): value for key, value in theirs.items()}
    assert {
        "backbone.blocks.3.gamma2",
        "backbone.interactions.3.extra_extractors.1.ffn.dwconv.dwconv.bias",
    } <= theirs.keys()
    content = {
        "meta": {"config": DETECTOR.replace("BACKBONE", BACKBONE), "CLASSES": ("cat", "dog")},
        "state_dict": theirs,
    }
    torch.save(content, tmp_path / "latest.pth")
    imported = import_model(tmp_path / "latest.pth")
    model = imported.model
    assert model.classes == ("cat", "dog")
    assert imported.test_size == (1333, 800)
    assert model.backbone.add_vit_feature == "last"
    assert imported.load_report.scheme == "backbone: vit_adapter, neck: mmdet, head: mmdet"
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for x, y in zip(model.extract_features(images), ours.extract_features(images), strict=True):
            torch.testing.assert_close(x, y)


def test_an_upernet_of_the_segmentation_code_opens(tmp_path):
    config = dict(
        type="DensePredictor",
        backbone=adapter(layer_scale=None, add_vit_feature="each", with_cffn=False),
        neck=dict(type="UPerNet", channels=8),
        head=dict(type="FCNHead", num_convs=0, num_classes=3),
        auxiliary=[dict(type="FCNHead", num_convs=1, channels=8, in_index=2, num_classes=3)],
    )
    ours = drawn(config)
    theirs = under_their_names(ours.backbone, "vit_adapter", "backbone.")
    theirs |= under_their_names(ours.neck, "mmseg", "decode_head.")
    theirs |= under_their_names(ours.head, "mmseg", "decode_head.")
    theirs |= under_their_names(ours.auxiliary[0], "mmseg", "auxiliary_head.")
    content = {
        "meta": {"config": SEGMENTOR.replace("BACKBONE", BACKBONE), "CLASSES": tuple("abc")},
        "state_dict": theirs,
    }
    torch.save(content, tmp_path / "latest.pth")
    imported = import_model(tmp_path / "latest.pth")
    model = imported.model
    assert model.classes == ("a", "b", "c")
    assert (model.inference.window, model.inference.stride) == ((64, 64), (42, 42))
    assert model.backbone.add_vit_feature == "each"
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), ours(images))


def test_options_of_the_repository_are_taken_over():
    config = dict(
        type="ViTAdapter", embed_dim=16, depth=4, num_heads=2, deform_num_heads=2, interaction_indexes=[[0, 1], [2, 3]]
    )
    whole = translate(
        "mmdet", dict(config, window_attn=True, window_size=5, residual_indices=[1], use_extra_extractor=False)
    )
    windows = whole["vit"]["windows"]
    assert (windows["blocks"], windows["size"], windows["conv_blocks"]) == ((0, 1, 2, 3), (5, 5, 5, 5), (1,))
    assert whole["vit"]["block"]["layer_scale"] == 1.0
    assert whole["use_extra_extractor"] is False
    assert translate("mmseg", dict(config, add_vit_feature=False))["add_vit_feature"] is None
    reported = build(
        "mmdet", config, names=["blocks.0.attn.qkv.weight", "interactions.0.extractor.attn.value_proj.weight"]
    )
    assert isinstance(reported.vit.blocks[0].ls1, torch.nn.Identity)
    assert not reported.interactions[0].extractor.hidden_dim


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(version_of_code="both"), "version_of_code is 'both'"),
        (dict(patch_size=14), "patch_size is 14"),
        (dict(img_size=384), "img_size is 384, but pretrain_size is 224"),
        (dict(window_attn=[True]), "window_attn has 1 entries for 4 blocks"),
        (dict(freeze_vit=True), "'freeze_vit'"),
        (dict(drop_rate=0.1), "drop_rate is 0.1"),
    ],
)
def test_what_densevit_does_not_know_is_an_error_that_names_it(changes, said):
    config = dict(type="ViTAdapter", version_of_code="detection", depth=4, interaction_indexes=[[0, 3]])
    with pytest.raises(ConfigError, match=said):
        translate("czczup", {**config, **changes})


@pytest.mark.parametrize("kind", ["BEiTAdapter", "UniPerceiverAdapter", "ViTBaseline", "BEiTBaseline"])
def test_other_backbones_of_the_repository_are_refused_by_name(kind):
    with pytest.raises(UnsupportedModelError, match=kind):
        translate("czczup", dict(type=kind))


def test_deits_weights_load_into_its_vit():
    """A classifier with a class token: the token, its row of the table and the head are left out."""
    import timm

    classifier = timm.create_model("deit_tiny_patch16_224", num_classes=5)
    backbone = ViTAdapter(dict(type="ViT", arch="tiny", tokens=dict(cls=False)))
    report = load_weights(backbone.vit, classifier.state_dict())
    assert set(report.ignored) == {"head.weight", "head.bias", "cls_token", "norm.weight", "norm.bias"}
    assert report.complete
    assert torch.equal(backbone.vit.pos_embed, classifier.pos_embed[:, 1:])
    with pytest.raises(CheckpointError, match="lacks"):
        load_weights(backbone, classifier.state_dict())
