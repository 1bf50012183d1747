"""Old checkpoints of segmentation models are enough: files of mmsegmentation, folders of Segmenter's repository."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from parity.case import read_case

from densevit import Predictor, import_model
from densevit.converters import build, load_weights, translate
from densevit.converters.config_spec import UnsupportedModelError
from densevit.datasets.transforms.geometry import Resize
from densevit.errors import CheckpointError, ConfigError, DataError

DATA = Path(__file__).resolve().parent.parent / "data" / "mmseg"
CLASSES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road")
NAMES = ["upernet_swin", "segmenter_vit", "setr_mla", "dpt_vit"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_mmsegmentation_predicts_an_image_as_mmsegmentation_does(name):
    """Made by mmsegmentation 1.2.2's own Runner: published recipes at a small width, their windows and test scale."""
    golden, predictor = np.load(DATA / f"{name}.npz"), Predictor(weights=DATA / f"{name}.pth", device="cpu")
    model = predictor.model
    assert predictor.load_report.complete
    assert predictor.load_report.scheme == "mmseg"
    assert model.classes == CLASSES
    assert import_model(DATA / f"{name}.pth").test_size == (400, 110)
    found = predictor(np.ascontiguousarray(golden["img"][..., ::-1]))
    assert tuple(found.img_shape) == tuple(golden["resized_shape"][:2])
    assert found.semantic_names == CLASSES
    clear = np.unpackbits(golden["clear"])[: found.semantic.size].reshape(found.semantic.shape).astype(bool)
    assert clear.mean() > 0.99
    assert (found.semantic[clear] == golden["labels"][clear]).all()


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_a_file_of_mmsegmentation_are_mmsegmentations(name):
    golden, imported = np.load(DATA / f"{name}.npz"), import_model(DATA / f"{name}.pth")
    model = imported.model
    image = Resize(scale=(400, 110), keep_ratio=True)({"img": golden["img"], "img_shape": golden["img"].shape[:2]})[
        "img"
    ]
    data = model.data_preprocessor({"inputs": [torch.from_numpy(image).permute(2, 0, 1)], "data_samples": None})
    with torch.no_grad():
        logits = model(data["inputs"])
    assert list(logits.shape) == golden["logits_shape"].tolist()
    kept = logits.flatten()[:: max(1, logits.numel() // 3000)].numpy()
    assert np.abs(kept - golden["logits"]).max() < 1e-5 * np.abs(golden["logits"]).max()


def changed(tmp_path, name, old, new) -> Path:
    """A golden file with a piece of its configuration exchanged."""
    content = torch.load(DATA / f"{name}.pth", weights_only=False)
    text = content["meta"]["cfg"].replace(old, new, 1)
    assert text != content["meta"]["cfg"]
    content["meta"]["cfg"] = text
    torch.save(content, tmp_path / "old.pth")
    return tmp_path / "old.pth"


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("upernet_swin", "type='UPerHead'", "type='ASPPHead'", "model.decode_head.type is 'ASPPHead'"),
        ("upernet_swin", "type='FCNHead'", "type='FCNHead', dilation=2", "model.auxiliary_head.dilation is 2"),
        (
            "upernet_swin",
            "type='UPerHead'",
            "type='UPerHead', pool_scale=(1, 2)",
            "'pool_scale' .*nearest: 'pool_scales'",
        ),
        ("upernet_swin", "use_sigmoid=False", "use_mask=True", "use_mask is True"),
        ("upernet_swin", "type='CrossEntropyLoss'", "type='LovaszLoss'", "'LovaszLoss'; densevit has CrossEntropyLoss"),
        ("upernet_swin", "type='SwinTransformer'", "type='ResNetV1c'", "model.backbone.type is 'ResNetV1c'"),
        ("upernet_swin", "mode='whole'", "mode='slide'", "lacks crop_size or stride"),
        ("upernet_swin", "in_channels=32", "in_channels=33", r"in_channels are \[33\], but .* have \[32\]"),
        ("segmenter_vit", "mode='slide'", "mode='tiles'", "mode is 'tiles'"),
        ("segmenter_vit", "type='EncoderDecoder'", "type='CascadeEncoderDecoder'", "CascadeEncoderDecoder"),
        ("setr_mla", "type='MLANeck'", "type='JPU'", "model.neck.type is 'JPU'"),
        ("setr_mla", "mla_channels=8", "mla_channels=8, out_channels=1", "densevit has a channel for each class"),
    ],
)
def test_what_densevit_does_not_know_is_an_error_that_names_it(tmp_path, name, old, new, named):
    with pytest.raises(ConfigError, match=named):
        import_model(changed(tmp_path, name, old, new))


def test_weights_of_a_part_that_is_not_there_are_named(tmp_path):
    content = torch.load(DATA / "upernet_swin.pth", weights_only=False)
    content["state_dict"]["decode_head.psp_modules.4.1.conv.weight"] = torch.zeros(12, 64, 1, 1)
    content["state_dict"]["auxiliary_head.1.conv_seg.weight"] = torch.zeros(7, 8, 1, 1)
    del content["state_dict"]["decode_head.conv_seg.bias"]
    torch.save(content, tmp_path / "old.pth")
    with pytest.raises(CheckpointError) as caught:
        import_model(tmp_path / "old.pth")
    assert caught.value.load_report.missing == ["head.cls_pred.bias"]
    assert set(caught.value.load_report.unexpected) == {
        "decode_head.psp_modules.4.1.conv.weight",
        "auxiliary_head.1.conv_seg.weight",
    }


def test_a_file_of_mmsegmentation_0_is_normalized_as_its_test_pipeline_says(tmp_path):
    content = torch.load(DATA / "segmenter_vit.pth", weights_only=False)
    config = """
model = dict(type='EncoderDecoder', pretrained='x.pth',
    backbone=dict(type='VisionTransformer', img_size=(96, 96), patch_size=16, in_channels=3, embed_dims=16,
        num_layers=2, num_heads=2, mlp_ratio=2, final_norm=True, norm_cfg=dict(type='LN', eps=1e-06)),
    decode_head=dict(type='SegmenterMaskTransformerHead', in_channels=16, channels=16, num_classes=7, num_layers=2,
        num_heads=2, embed_dims=16, mlp_ratio=2, dropout_ratio=0.0),
    test_cfg=dict(mode='slide', crop_size=(96, 96), stride=(64, 64)))
img_norm_cfg = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True)
data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(400, 110),
    flip=False, transforms=[dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img'])])]))
"""
    content["meta"] = {"config": config, "CLASSES": CLASSES, "PALETTE": [[i, 0, 0] for i in range(7)]}
    torch.save(content, tmp_path / "old.pth")
    older, newer = (Predictor(weights=path) for path in (tmp_path / "old.pth", DATA / "segmenter_vit.pth"))
    assert older.model.classes == CLASSES
    assert older.palette[2] == [2, 0, 0]
    image = np.load(DATA / "segmenter_vit.npz")["img"]
    assert (older(image).semantic == newer(image).semantic).all()


def test_images_of_six_channels_are_taken_and_others_refused():
    backbone = dict(type="SwinTransformer", embed_dims=8, depths=[1] * 4, num_heads=[1, 2, 2, 4], in_channels=6)
    head = dict(type="FCNHead", in_channels=64, channels=64, num_convs=0, concat_input=False, num_classes=2)
    mean = dict(type="SegDataPreProcessor", mean=[10.0] * 6, std=[2.0] * 6, bgr_to_rgb=True)
    model = build("mmseg", dict(type="EncoderDecoder", backbone=backbone, decode_head=head, data_preprocessor=mean))
    images = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 64, 64)
    inputs = model.data_preprocessor({"inputs": [images]})["inputs"]
    assert inputs[0, :, 0, 0].tolist() == [(i - 10) / 2 for i in range(6)]  # no channel changes its place
    assert model(inputs).shape == (1, 2, 2, 2)
    with pytest.raises(DataError, match="3 channels, and this model takes 6"):
        model.data_preprocessor({"inputs": [images[:3]]})


@pytest.mark.parametrize("name", ["rstrudel_segmenter_linear", "rstrudel_segmenter_mask"])
def test_a_folder_of_segmenters_repository_opens(shared, tmp_path, name):
    case = read_case(shared / "parity", name)
    generator = torch.Generator().manual_seed(0)
    state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape, *_ in case.state}
    torch.save({"model": state, "epoch": 3, "n_iter_per_epoch": 10}, tmp_path / "checkpoint.pth")
    variant = dict(net_kwargs=case.model, inference_kwargs=dict(im_size=128, window_size=128, window_stride=96))
    (tmp_path / "variant.yml").write_text(yaml.safe_dump(dict(variant, algorithm_kwargs=dict(epochs=64))))
    imported = import_model(tmp_path)
    model = imported.model
    assert imported.load_report.complete
    assert (model.inference.window, model.inference.stride) == ((128, 128), (96, 96))
    assert imported.test_size == (512, 128)
    assert model.data_preprocessor.mean.flatten().tolist() == [127.5] * 3
    alone = build("rstrudel", case.model)
    load_weights(alone, state)  # recognized by its names
    images = torch.randn(1, 3, 100, 150)
    with torch.no_grad():
        assert torch.equal(model(images), alone(images))
    assert not alone.inference.dense_heads_only
    assert alone.data_preprocessor.size_divisor == 16


def test_a_folder_without_configuration_and_an_unknown_decoder_are_reported(tmp_path):
    with pytest.raises(CheckpointError, match=r"no variant\.yml with checkpoint\.pth"):
        import_model(tmp_path)
    config = dict(
        image_size=[64, 64], patch_size=16, d_model=64, n_heads=1, n_layers=1, n_cls=5, decoder=dict(name="x")
    )
    with pytest.raises(UnsupportedModelError, match="'linear' and 'mask_transformer'"):
        translate("rstrudel", config)
    with pytest.raises(ConfigError, match="normalization is 'clip'"):
        translate("rstrudel", dict(config, normalization="clip"))


def test_end_levels_and_extra_maps_are_counted_as_mmsegmentation_does():
    common = dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=8)
    ours = translate("mmseg", dict(common, num_outs=2, start_level=1, end_level=3))
    assert (ours["start_level"], ours["end_level"]) == (1, 2)
    assert translate("mmseg", dict(common, num_outs=5, add_extra_convs=True))["extra_levels"] == "conv_on_output"
    assert translate("mmdet", dict(common, num_outs=5, add_extra_convs=True))["extra_levels"] == "conv_on_input"
