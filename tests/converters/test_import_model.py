"""Old checkpoints alone are enough: mmdetection's files open, with its outputs, and nothing in them is run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import densevit
from densevit import import_model
from densevit.converters import build, translate
from densevit.converters.config_spec import UnsupportedModelError
from densevit.errors import CheckpointError, ConfigError
from densevit.models.dense_predictor import DensePredictor
from densevit.ops.masks import decode_rle
from densevit.registry import MODELS
from densevit.structures import DataSample

DATA = Path(__file__).resolve().parent.parent / "data" / "mmdet"
PACKAGE, FOLDERS = Path(densevit.__file__).parent, ("checkpoints", "converters")
CLASSES = ("ball", "box", "cone", "ring", "tube")


def error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", ["retinanet_pvt", "retinanet_pvtv2", "retinanet_swin"])
def test_a_file_of_mmdetection_opens_with_mmdetections_outputs(name):
    """Made by mmdetection 3.3.0's own Runner and head: published recipes at a hundredth of their width."""
    imported = import_model(DATA / f"{name}.pth")
    model, golden = imported.model, np.load(DATA / f"{name}.npz")
    assert not model.training
    assert imported.load_report.complete
    assert model.classes == CLASSES
    meta = dict(img_shape=golden["resized"].shape[:2], ori_shape=golden["img"].shape[:2])
    sample = DataSample(metainfo=dict(meta, scale_factor=tuple(golden["scale_factor"].tolist())))
    data = dict(inputs=[torch.from_numpy(golden["resized"]).permute(2, 0, 1)], data_samples=[sample])
    with torch.no_grad():
        inputs = model.data_preprocessor(data)["inputs"]
        stages = model.backbone(inputs)
        pyramid = model.neck(stages)
        logits, deltas = model.head(pyramid)
        found = model.predict(pyramid, [sample])[0].pred_instances
    for kind, maps in (("stage", stages), ("fpn", pyramid), ("cls", logits), ("reg", deltas)):
        for i, image in enumerate(maps):
            assert list(image.shape) == golden[f"shape_{kind}_{i}"].tolist()
            assert error(image.flatten()[:: max(1, image.numel() // 500)], golden[f"{kind}_{i}"]) < 1e-5
    assert found.labels.tolist() == golden["labels"].tolist()
    assert error(found.bboxes, golden["boxes"]) < 1e-5
    assert error(found.scores, golden["scores"]) < 1e-5


def test_a_mask_rcnn_of_mmdetection_opens_with_mmdetections_boxes_and_masks():
    """Made by mmdetection 3.3.0: Swin-T's published recipe at a hundredth of its width."""
    imported = import_model(DATA / "maskrcnn_swin.pth")
    model, golden = imported.model, np.load(DATA / "maskrcnn_swin.npz")
    assert imported.load_report.complete
    assert model.classes == CLASSES
    meta = dict(img_shape=golden["resized"].shape[:2], ori_shape=golden["img"].shape[:2])
    sample = DataSample(metainfo=dict(meta, scale_factor=tuple(golden["scale_factor"].tolist())))
    data = dict(inputs=[torch.from_numpy(golden["resized"]).permute(2, 0, 1)], data_samples=[sample])
    with torch.no_grad():
        pyramid = model.extract_features(model.data_preprocessor(data)["inputs"])
        found = model.predict(pyramid, [sample])[0].pred_instances
    for i, image in enumerate(pyramid):
        assert list(image.shape) == golden[f"shape_fpn_{i}"].tolist()
        assert error(image.flatten()[:: max(1, image.numel() // 500)], golden[f"fpn_{i}"]) < 1e-5
    assert found.labels.tolist() == golden["labels"].tolist()
    assert error(found.bboxes, golden["boxes"]) < 1e-5
    assert error(found.scores, golden["scores"]) < 1e-5
    ours, theirs = np.stack([decode_rle(mask) for mask in found.masks]), np.unpackbits(golden["masks"], -1)
    assert theirs.any((1, 2)).mean() > 0.9
    assert (ours != theirs[..., : ours.shape[-1]]).sum() <= 4  # pixels within rounding of the threshold


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("fc_out_channels=16", "fc_out_channels=16, num_reg_fcs=1", "num_reg_fcs"),
        ("type='FCNMaskHead'", "type='HTCMaskHead'", "HTCMaskHead"),
        ("type='StandardRoIHead'", "type='StandardRoIHead', shared_head=dict(type='ResLayer')", "shared_head"),
        ("neg_pos_ub=-1", "neg_pos_ub=3", "neg_pos_ub"),
        ("mask_size=28", "mask_size=56", "mask_size"),
        ("finest_scale=56", "finest=56", "finest"),
        ("mask_thr_binary=0.5", "mask_thr_binary=0.5, soft=1", "soft"),
    ],
)
def test_what_densevit_does_not_know_of_two_stages_is_an_error_that_names_it(tmp_path, old, new, named):
    content = torch.load(DATA / "maskrcnn_swin.pth", weights_only=False)
    text = content["meta"]["cfg"].replace("featmap_strides=[", "finest_scale=56, featmap_strides=[", 1)
    content["meta"]["cfg"] = text.replace(old, new)
    assert content["meta"]["cfg"] != text
    torch.save(content, tmp_path / "old.pth")
    with pytest.raises(ConfigError, match=named):
        import_model(tmp_path / "old.pth")


def saved(tmp_path, text: str, **meta) -> Path:
    """A checkpoint with this configuration and the weights of the golden file."""
    content = torch.load(DATA / "retinanet_pvt.pth", weights_only=False)
    path = tmp_path / "old.pth"
    torch.save({"state_dict": content["state_dict"], "meta": {"cfg": text, **meta}}, path)
    return path


@pytest.fixture
def text() -> str:
    return torch.load(DATA / "retinanet_pvt.pth", weights_only=False)["meta"]["cfg"]


def test_code_in_the_configuration_is_not_run(tmp_path, text):
    mark = tmp_path / "ran"
    run = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    beside = import_model(saved(tmp_path, f"{run}\nx = {run}\n{text}"))
    assert beside.load_report.complete
    within = text.replace("num_classes=5", f"num_classes={run}")
    assert within != text
    with pytest.raises(CheckpointError, match="was not run"):
        import_model(saved(tmp_path, within))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("num_classes=5", "num_clases=5", "num_clas"),
        ("stacked_convs=1", "stacked_convs=1, dcn=True", "dcn"),
        ("score_thr=0.05", "score_thr=0.05, soft=1", "soft"),
        ("min_pos_iou=0", "min_pos_iou=0, sigma=2", "sigma"),
        ("pad_size_divisor=32", "pad_size_divisor=32, pad_value=114", "pad_value"),
        ("type='L1Loss'", "type='GIoULoss'", "GIoULoss"),
        ("type='FPN'", "type='PAFPN'", "PAFPN"),
        ("type='RetinaNet'", "type='FCOS'", "FCOS"),
        ("type='PyramidVisionTransformer'", "type='ResNet'", "ResNet"),
        ("start_level=1", "start_level=1, norm_cfg=dict(type='BN')", "norm_cfg"),
        ("mlp_ratios=[", "with_cp=True, mlp_ratios=[", "with_cp"),
    ],
)
def test_what_densevit_does_not_know_is_an_error_that_names_it(tmp_path, text, old, new, named):
    changed = text.replace(old, new)
    assert changed != text
    with pytest.raises(ConfigError, match=named):
        import_model(saved(tmp_path, changed))


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path, text):
    with pytest.raises(CheckpointError, match=r"head\.retina_cls\.bias"):
        import_model(saved(tmp_path, text.replace("num_classes=5", "num_classes=6")))


def test_a_file_without_a_configuration_says_so(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="carries no configuration"):
        import_model(tmp_path / "bare.pth")


def test_a_configuration_of_2x_with_whai362s_backbone_is_read(tmp_path):
    """whai362's detection files: mmdetection 2.x around backbones called 'pvt_tiny', preprocessing in the pipeline."""
    text = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(1333, 800), flip=False,
    transforms=[dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg),
                dict(type='Pad', size_divisor=32)])]
model = dict(type='RetinaNet', pretrained='https://example.org/pvt_tiny.pth',
    backbone=dict(type='pvt_tiny', style='pytorch'),
    neck=dict(type='FPN', in_channels=[64, 128, 320, 512], out_channels=16, start_level=1, add_extra_convs='on_input',
              num_outs=5),
    bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=16, stacked_convs=0,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
                              ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
        ignore_iof_thr=-1), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=100))
"""
    ours = MODELS.build(
        dict(
            type="DensePredictor",
            backbone=dict(type="PVT", arch="tiny"),
            neck=dict(type="FPN", out_channels=16, start_level=1, extra_levels="conv_on_input"),
            head=dict(type="RetinaNetHead", num_classes=2, stacked_convs=0),
        )
    )
    theirs = {}
    for key, value in ours.state_dict().items():
        key = key.replace("head.", "bbox_head.")
        if "convs." in key:
            key = key.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias")
        theirs[key] = torch.cat((value[:, :1], value), 1) if key == "backbone.pos_embed4" else value
    path = tmp_path / "epoch_12.pth"
    torch.save({"meta": {"config": text, "CLASSES": ("cat", "dog")}, "state_dict": theirs}, path)
    imported = import_model(path)
    model = imported.model
    assert model.classes == ("cat", "dog")
    assert imported.load_report.scheme == "backbone: pvt, neck: mmdet, head: mmdet"
    assert imported.test_size == (1333, 800)
    assert model.data_preprocessor.size_divisor == 32
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert model.backbone.block1[0].norm1.eps == 1e-6
    assert model.backbone.patch_embed1.norm.eps == 1e-5
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in model.state_dict().items())


def test_our_own_checkpoint_opens_from_its_own_configuration(tmp_path):
    config = dict(
        type="DensePredictor",
        backbone=dict(
            type="PVTv2", arch="b0", init_cfg=dict(type="Pretrained", checkpoint="https://example.org/x.pth")
        ),
        neck=dict(type="FPN", out_channels=8),
        head=dict(type="RetinaNetHead", stacked_convs=0),
    )
    given = MODELS.build({**config, "backbone": dict(type="PVTv2", arch="b0"), "classes": ("a", "b")})
    meta = {"cfg": f"model = {config!r}", "dataset_meta": {"classes": ("a", "b")}}
    torch.save({"meta": meta, "state_dict": given.state_dict()}, tmp_path / "ours.pth")
    imported = import_model(tmp_path / "ours.pth")
    model = imported.model
    assert isinstance(model, DensePredictor)
    assert model.classes == ("a", "b")
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_folder_of_timms_opens(tmp_path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    reference = timm.create_model("pvt_v2_b0", num_classes=3).eval()
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "pvt_v2_b0", "num_classes": 3, "pretrained_cfg": {}})
    )
    imported = import_model(tmp_path)
    model = imported.model
    image = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        assert torch.allclose(model(image)[-1], reference.forward_features(image), atol=1e-5)


def test_an_unknown_model_is_not_built_and_an_unknown_key_is_an_error():
    with pytest.raises(UnsupportedModelError, match="HRNet"):
        translate("mmdet", dict(type="HRNet"))
    scoped = translate("mmdet", dict(type="mmdet.models.backbones.pvt.PyramidVisionTransformerV2"))
    assert scoped == translate("mmdet", dict(type="PyramidVisionTransformerV2"))
    with pytest.raises(ConfigError, match="window"):
        translate("mmdet", dict(type="PyramidVisionTransformerV2", window=7))
    with pytest.raises(ConfigError, match=r"sr_rations.*nearest: 'sr_ratios'"):
        translate("whai362", dict(type="PyramidVisionTransformer", patch_size=4, sr_rations=[8, 4, 2, 1]))


def test_defaults_of_each_project_are_its_own():
    mmdet = translate("mmdet", dict(type="PyramidVisionTransformer"))
    assert mmdet["arch"]["depths"] == [3, 4, 6, 3]
    assert mmdet["arch"]["embed_dims"] == [64, 128, 320, 512]
    assert (mmdet["norm_eps"], mmdet["embed_norm_eps"], mmdet["drop_path_rate"]) == (1e-6, 1e-6, 0.1)
    official = translate("whai362", dict(type="PyramidVisionTransformerV2"))
    assert official["arch"]["embed_dims"] == [64, 128, 256, 512]
    assert official["arch"]["mlp_ratios"] == [4, 4, 4, 4]
    assert official["norm_eps"] == 1e-5
    assert not official["qkv_bias"]
    with pytest.raises(ConfigError, match="patch_size is 16"):
        translate("whai362", dict(type="PyramidVisionTransformer"))


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_named_sizes_equal_our_archs(size):
    with torch.device("meta"):
        theirs, ours = build("whai362", dict(type=f"pvt_{size}")), MODELS.build(dict(type="PVT", arch=size))
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}


@pytest.mark.parametrize("size", ["b0", "b1", "b2", "b2_li", "b3", "b4", "b5"])
@pytest.mark.parametrize("source", ["whai362", "timm"])
def test_named_sizes_of_v2_equal_our_archs(size, source):
    with torch.device("meta"):
        theirs, ours = build(source, dict(type=f"pvt_v2_{size}")), MODELS.build(dict(type="PVTv2", arch=size))
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}


def test_an_import_enters_few_files():
    """Those of checkpoints/ and converters/ that a reader has to open in order to follow one import."""
    entered: set[Path] = set()

    def profile(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents and path.relative_to(PACKAGE).parts[0] in FOLDERS:
            entered.add(path)

    sys.setprofile(profile)
    try:
        import_model(DATA / "retinanet_pvt.pth")
    finally:
        sys.setprofile(None)
    assert 0 < len(entered) <= 8, sorted(path.name for path in entered)
