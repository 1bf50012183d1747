"""DPT and Depth-Anything are held against transformers' own, on the same weights, from folders as transformers saves
them."""

import json

import pytest
import torch

from densevit import import_model
from densevit.converters import translate
from densevit.converters.config_spec import UnsupportedModelError
from densevit.errors import ConfigError

LABELS = {i: f"thing {i}" for i in range(7)}
VIT = dict(hidden_size=32, num_hidden_layers=6, num_attention_heads=4, intermediate_size=64, image_size=64)
DINO = dict(hidden_size=32, num_hidden_layers=6, num_attention_heads=4, mlp_ratio=2, image_size=70, patch_size=14)
TAPS = dict(backbone_out_indices=[1, 2, 4, 5], neck_hidden_sizes=[8, 12, 16, 24], fusion_hidden_size=16)


def saved(tmp_path, kind, config):
    """A folder with a narrow model, and transformers' own, all weights drawn."""
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, kind)(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() + 0.5 if "var" in name else drawn * (0.3 if value.ndim == 1 else 0.15))
        last = [value for name, value in theirs.named_parameters() if name.startswith("head") and value.numel() == 1]
        for value in last:
            value.fill_(3.0)  # above the last ReLU
    theirs.save_pretrained(tmp_path)
    return theirs


def compare(ours, wanted, limit=1e-5):
    assert ours.shape == wanted.shape
    assert wanted.std() > 1e-3
    assert (ours - wanted).abs().max() < limit * wanted.abs().max()


def unused(report) -> set[str]:
    return {name.rsplit(".", 2)[0] for name in report.ignored}


@pytest.mark.parametrize("size", [(64, 64), (112, 112), (80, 80)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(readout_type="add", use_batch_norm_in_fusion_residual=True),
        dict(readout_type="ignore", use_bias_in_fusion_residual=False, reassemble_factors=[2, 1, 0.5, 0.25]),
    ],
    ids=["project", "add", "ignore"],
)
def test_depth_of_dpt_is_transformers(tmp_path, settings, size):
    transformers = pytest.importorskip("transformers")
    theirs = saved(tmp_path, "DPTForDepthEstimation", transformers.DPTConfig(**VIT, **TAPS, **settings))
    imported = import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.complete
    assert imported.load_report.scheme == "transformers"
    assert not ours.head.metric
    left = {"neck.fusion_stage.layers.0.residual_layer1.convolution1", "dpt.layernorm.weight"}
    assert left & set(imported.load_report.ignored) or left & unused(imported.load_report)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        compare(ours(images)[:, 0], theirs(images).predicted_depth)


def test_classes_of_dpt_are_transformers_and_its_auxiliary_head_is_left_out(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.DPTConfig(**VIT, **TAPS, id2label=LABELS)
    theirs, imported = saved(tmp_path, "DPTForSemanticSegmentation", config), import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.complete
    assert ours.classes == tuple(LABELS.values())
    assert any(name.startswith("auxiliary_head.") for name in imported.load_report.ignored)
    images = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        compare(ours(images), theirs(images).logits)
        assert ours(torch.randn(1, 3, 80, 112)).shape[:2] == (1, 7)  # which theirs refuses


@pytest.mark.parametrize("size", [(70, 98), (42, 126)])
def test_dpt_on_dinov2_is_transformers_on_images_that_are_not_square(tmp_path, size):
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(**DINO, out_indices=[2, 3, 5, 6], reshape_hidden_states=False)
    config = transformers.DPTConfig(backbone_config=backbone, **TAPS)
    theirs, imported = saved(tmp_path, "DPTForDepthEstimation", config), import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.complete
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        compare(ours(images)[:, 0], theirs(images).predicted_depth)


@pytest.mark.parametrize("size", [(70, 98), (42, 126)])
@pytest.mark.parametrize(
    "settings", [{}, dict(depth_estimation_type="metric", max_depth=20)], ids=["relative", "metric"]
)
def test_depth_of_depth_anything_is_transformers(tmp_path, settings, size):
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Dinov2Config(**DINO, out_indices=[2, 3, 5, 6], reshape_hidden_states=False)
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 12, 16, 24],
        fusion_hidden_size=16,
        head_hidden_size=8,
        **settings,
    )
    theirs, imported = saved(tmp_path, "DepthAnythingForDepthEstimation", config), import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.complete
    assert (ours.head.metric, ours.head.max_depth) == ((True, 20.0) if settings else (False, None))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        compare(ours(images)[:, 0], theirs(images).predicted_depth)


def test_a_folders_image_processor_says_how_images_are_resized_and_normalized(tmp_path):
    transformers = pytest.importorskip("transformers")
    saved(tmp_path, "DPTForDepthEstimation", transformers.DPTConfig(**VIT, **TAPS))
    processor = dict(image_mean=[0.5] * 3, image_std=[0.25] * 3, size=dict(height=96, width=128))
    for changes, wanted in (
        ({}, dict(scale=(128, 96), keep_ratio=False, cubic=True)),
        (
            dict(keep_aspect_ratio=True, ensure_multiple_of=32),
            dict(scale=(128, 96), fit="closest", divisor=32, cubic=True),
        ),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor | changes))
        imported = import_model(tmp_path)
        model = imported.model
        assert imported.test_size == wanted
        assert model.data_preprocessor.std.flatten().tolist() == [63.75] * 3


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        (dict(is_hybrid=True), UnsupportedModelError, "BiT"),
        (dict(backbone_config=dict(model_type="bit")), UnsupportedModelError, "BiT"),
        (dict(architectures=["DPTModel"]), UnsupportedModelError, "'DPTModel'"),
        (dict(backbone_config=dict(model_type="beit")), UnsupportedModelError, "'beit'"),
        (dict(hidden_act="silu"), ConfigError, "hidden_act is 'silu'"),
        (dict(readout="add"), ConfigError, "'readout'.*nearest: 'readout_type'"),
        (dict(readout_type="subtract"), ConfigError, "subtract"),
    ],
)
def test_what_densevit_does_not_have_is_named(config, kind, said):
    with pytest.raises(kind, match=said):
        from densevit.converters import build

        build("transformers", dict(model_type="dpt", **VIT, **TAPS, **config))


def test_a_relative_depth_anything_with_a_largest_depth_is_refused():
    backbone = dict(model_type="dinov2", **DINO, out_indices=[2, 3, 5, 6])
    config = dict(model_type="depth_anything", backbone_config=backbone, reassemble_hidden_size=32)
    assert translate("transformers", dict(config, max_depth=1))["head"]["type"] == "DPTDepthHead"
    with pytest.raises(ConfigError, match="max_depth is 20"):
        translate("transformers", dict(config, max_depth=20))
