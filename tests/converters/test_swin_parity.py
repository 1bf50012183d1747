"""Swin and Swin V2 equal timm's and transformers' on the same weights, at sizes that are no multiples of a window."""

import pytest
import torch
from safetensors.torch import save_file

from densevit.converters import build, import_model, load_weights, translate
from densevit.converters.config_spec import UnsupportedModelError
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS

SMALL = dict(embed_dim=16, depths=(2, 2, 3, 2), num_heads=(1, 2, 2, 4))


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros, so that each shows in the outputs."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.05 if parameter.ndim > 1 else 0.2))
    return module.eval()


def assert_equal(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs, strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize(
    ("name", "args", "sizes"),
    [
        ("swin_tiny_patch4_window7_224", dict(strict_img_size=False), [(224, 224), (200, 300)]),
        ("swin_tiny_patch4_window7_224", dict(img_size=(200, 260)), [(200, 260)]),
        ("swin_tiny_patch4_window7_224", dict(img_size=(128, 160), window_size=(4, 5)), [(128, 160)]),
        ("swin_tiny_patch4_window7_224", dict(strict_img_size=False, always_partition=True), [(224, 224), (104, 60)]),
        ("swin_s3_tiny_224", dict(strict_img_size=False), [(200, 300)]),
        ("swin_base_patch4_window12_384", dict(), [(384, 384)]),
        ("swinv2_tiny_window8_256", dict(strict_img_size=False), [(256, 256), (200, 300)]),
        ("swinv2_tiny_window16_256", dict(img_size=(200, 300)), [(200, 300)]),
        ("swinv2_base_window12to16_192to256", dict(strict_img_size=False), [(200, 300)]),
    ],
)
def test_features_equal_timms(name, args, sizes):
    timm = pytest.importorskip("timm")
    args = {**SMALL, **args}
    theirs = drawn(timm.create_model(name, features_only=True, pretrained=False, **args))
    ours = build("timm", dict(architecture=name, model_args=args))
    report = load_weights(ours, theirs.state_dict())
    assert report.scheme == "timm"
    assert report.complete
    for size in sizes:
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert_equal(ours(image), [x.permute(0, 3, 1, 2) for x in theirs(image)])


def test_a_folder_of_timms_opens_with_the_windows_of_its_size_of_image(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = drawn(timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=160, **SMALL))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    text = '{"architecture": "swin_tiny_patch4_window7_224", "num_classes": 3, "num_features": 128, "model_args": %s,'
    text += '"pretrained_cfg": {"input_size": [3, 160, 160], "tag": "x"}}'
    (tmp_path / "config.json").write_text(text % '{"embed_dim": 16, "depths": [2, 2, 3, 2], "num_heads": [1, 2, 2, 4]}')
    imported = import_model(tmp_path)
    model = imported.model
    image = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        last = model(image)[-1].permute(0, 2, 3, 1)
        assert_equal([theirs.norm(last)], [theirs.forward_features(image)])
    assert sorted(imported.load_report.ignored) == ["head.fc.bias", "head.fc.weight", "norm.bias", "norm.weight"]


TRANSFORMERS = [
    ("Swin", "Model", dict(), [(224, 224), (203, 261)]),
    ("Swin", "ForImageClassification", dict(use_absolute_embeddings=True, image_size=192, window_size=6), [(192, 192)]),
    ("Swin", "Backbone", dict(out_features=["stage1", "stage3", "stage4"]), [(224, 224), (203, 261), (40, 64)]),
    ("Swinv2", "Model", dict(window_size=8, image_size=256), [(256, 256), (203, 261)]),
    (
        "Swinv2",
        "Backbone",
        dict(
            window_size=16,
            image_size=(200, 300),
            pretrained_window_sizes=(12, 12, 12, 6),
            out_features=["stage2", "stage4"],
        ),
        [(203, 261)],
    ),
]


@pytest.mark.parametrize(("family", "kind", "args", "sizes"), TRANSFORMERS)
def test_a_folder_of_transformers_opens_with_its_features(tmp_path, family, kind, args, sizes):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **args})
    theirs = drawn(getattr(transformers, f"{family}{kind}")(config))
    theirs.save_pretrained(tmp_path)
    imported = import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.scheme == "transformers"
    assert imported.load_report.complete
    live = build("transformers", {**config.to_dict(), "architectures": [f"{family}{kind}"]})
    assert load_weights(live, theirs.state_dict()).complete
    for size in sizes:
        image, ends = torch.randn(2, 3, *size), []
        again = drawn(type(theirs)(config))  # what it has seen changes its windows
        again.load_state_dict(theirs.state_dict())
        for name, module in again.named_modules():
            if name.endswith("blocks"):
                module[-1].register_forward_hook(lambda _, __, out, ends=ends: ends.append(out[0]))
        with torch.no_grad():
            out, maps = again(image), ours(image)
            assert_equal(maps, live(image))
        if kind == "Backbone":
            assert_equal(maps, out.feature_maps)
        else:
            assert_equal([x.flatten(2).transpose(1, 2) for x in maps], ends)


def classifier(**args) -> dict[str, torch.Tensor]:
    """A file of microsoft's classifier: computed tensors and the head beside the network."""
    state = MODELS.build(dict(type="Swin", arch=dict(SMALL, mlp_ratio=4), output_norm=False, **args)).state_dict()
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return state | {"norm.weight": torch.ones(128), "norm.bias": torch.zeros(128), "head.weight": torch.zeros(5, 128)}


def test_a_classifier_goes_into_a_detector_whose_own_norms_start_fresh():
    dense = MODELS.build(dict(type="Swin", arch=dict(SMALL, mlp_ratio=4), out_indices=(1, 3)))
    report = load_weights(dense, {"model": classifier()})
    assert report.complete
    assert report.newly_initialized == ["norm1.weight", "norm1.bias", "norm3.weight", "norm3.bias"]
    assert "4 newly initialized" in str(report)
    assert "newly initialized norm1.weight" in report.table()
    # a file that is no classifier's, or has other norms, lacks them
    bare = {k: v for k, v in classifier().items() if not k.startswith(("norm.", "head."))}
    with pytest.raises(CheckpointError, match=r"lacks norm1\.weight"):
        load_weights(dense, bare)
    with pytest.raises(CheckpointError, match=r"lacks norm3\.weight"):
        load_weights(dense, classifier() | {"norm1.weight": torch.ones(32), "norm1.bias": torch.zeros(32)})


def test_windows_of_a_classifier_are_resized_for_a_model_of_other_windows():
    dense = MODELS.build(dict(type="Swin", arch=dict(SMALL, mlp_ratio=4), window_size=12, output_norm=False))
    report = load_weights(dense, classifier())
    assert len(report.resized) == 9
    assert all(shapes[0][0] == 169 and shapes[1][0] == 529 for shapes in report.resized.values())


def test_microsofts_classifier_and_detector_are_distinguished_by_their_arguments():
    detector = translate("microsoft", dict(type="SwinTransformer", pretrain_img_size=224, window_size=7))
    assert detector["window_size"] == 7
    assert detector["drop_path_rate"] == 0.2
    sized = translate("microsoft", dict(type="SwinTransformer", img_size=192, window_size=12, num_classes=6))
    assert sized["window_size"] == ((12, 12), (12, 12), (12, 12), (6, 6))
    assert sized["shift"]["size"] == ((6, 6), (6, 6), (0, 0), (0, 0))
    assert not sized["output_norm"]
    # its detection repository is an mmdetection 2.x, where its class has the name of mmdetection's own
    settings = dict(embed_dim=96, depths=[2, 2, 6, 2], ape=False, use_checkpoint=False)
    assert translate("mmdet", dict(type="SwinTransformer", **settings)) == translate(
        "detectron2", dict(_target_="detectron2.modeling.backbone.swin.SwinTransformer", **settings)
    )


@pytest.mark.parametrize(
    ("source", "config", "said"),
    [
        ("mmdet", dict(type="SwinTransformer", window=7), "window"),
        ("mmdet", dict(type="SwinTransformer", drop_rate=0.1), "drop_rate is 0.1"),
        ("mmdet", dict(type="SwinTransformer", strides=(4, 2, 2, 1)), "strides"),
        ("mmdet", dict(type="SwinTransformer", norm_cfg=dict(type="BN")), "'BN'"),
        ("detectron2", dict(_target_="SwinTransformer", in_chans=1), "in_chans is 1"),
        ("timm", dict(architecture="swin_tiny_patch4_window7_224", model_args=dict(head_dim=16)), "head_dim"),
        ("timm", dict(architecture="swin_tiny_patch4_window7_224", model_args=dict(embed_dim=[8, 24])), "doubles"),
        ("transformers", dict(model_type="swin", hidden_act="relu"), "hidden_act"),
        ("transformers", dict(architectures=["SwinBackbone"], model_type="swin", out_features=["stem"]), "'stem'"),
    ],
)
def test_what_densevit_does_not_have_is_an_error_that_names_it(source, config, said):
    with pytest.raises(ConfigError, match=said):
        translate(source, config)


def test_another_model_of_transformers_is_not_built():
    with pytest.raises(UnsupportedModelError, match="'bert'"):
        translate("transformers", dict(model_type="bert"))


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_timms_named_sizes_equal_our_archs(size):
    names = {f"swin_{size}_patch4_window7_224": "Swin", f"swinv2_{size}_window8_256": "SwinV2"}
    if size == "large":
        names = {"swin_large_patch4_window12_384": "Swin", "swinv2_large_window12to24_192to384": "SwinV2"}
    for name, kind in names.items():
        with torch.device("meta"):
            theirs = build("timm", dict(architecture=name))
            windows = [block.attn.window_config.window for block in (stage.blocks[0] for stage in theirs.layers)]
            ours = MODELS.build(dict(type=kind, arch=size, output_norm=False, window_size=windows))
        shapes = {key: value.shape for key, value in theirs.state_dict().items()}
        assert shapes == {key: value.shape for key, value in ours.state_dict().items()}
