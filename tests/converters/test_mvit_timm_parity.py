"""MViTv2 equals timm's on timm's own weights: after every stage and after the last norm."""

import pytest
import torch

from densevit.converters import build, load_weights
from densevit.errors import ConfigError
from densevit.registry import MODELS

timm = pytest.importorskip("timm")
SIZES = {
    "mvitv2_tiny": 224,
    "mvitv2_small": 160,
    "mvitv2_base": 192,
    "mvitv2_small_cls": 96,
    "mvitv2_base_cls": 128,
    "mvitv2_large": 64,
    "mvitv2_large_cls": 64,
}
QUICK = ("mvitv2_tiny", "mvitv2_small_cls")


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every parameter away from ones and zeros, so that each shows in the outputs."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.5 if "rel_pos" in name else 0.05))
    return model.eval()


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_features_equal_timms(name):
    torch.manual_seed(0)
    side = SIZES[name]
    theirs = drawn(timm.create_model(name, pretrained=False, img_size=side))
    ours = build("timm", {"architecture": name, "model_args": {"img_size": side}})
    report = load_weights(ours, theirs.state_dict())
    assert report.scheme == "timm"
    assert report.complete
    assert report.ignored == ["head.fc.weight", "head.fc.bias"]
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        want = theirs.forward_intermediates(image, norm=True, intermediates_only=True)
        for got, stage in zip(ours(image), want, strict=True):
            assert got.shape == stage.shape
            assert (got - stage).abs().max() <= 1e-5 * stage.abs().max()


def test_a_classifier_starts_a_detector_whose_norms_are_new():
    theirs = drawn(timm.create_model("mvitv2_tiny", pretrained=False))
    detector = MODELS.build(dict(type="MViTv2"))
    report = load_weights(detector, theirs.state_dict())
    assert report.complete
    assert report.newly_initialized == [f"scale{i}_norm.{kind}" for i in (2, 3, 4, 5) for kind in ("weight", "bias")]
    assert not report.resized
    assert set(report.ignored) == {"head.fc.weight", "head.fc.bias", "norm.weight", "norm.bias"}


def test_tables_of_another_size_of_image_are_resized_linearly():
    theirs = drawn(timm.create_model("mvitv2_tiny", pretrained=False))
    ours = MODELS.build(dict(type="MViTv2", img_size=320))
    report = load_weights(ours, theirs.state_dict())
    name = "blocks.0.attn.rel_pos_h"
    assert report.resized[name] == ((111, 96), (159, 96))
    table = theirs.state_dict()["stages.0.blocks.0.attn.rel_pos_h"]
    want = torch.nn.functional.interpolate(table.t()[None], 159, mode="linear")[0].t()
    torch.testing.assert_close(ours.state_dict()[name], want)


@pytest.mark.parametrize(
    ("args", "named"),
    [({"pool_first": True}, "pool_first"), ({"img_size": (224, 192)}, "square"), ({"strange": 1}, "strange")],
)
def test_what_densevit_does_not_have_of_timms_is_named(args, named):
    with pytest.raises(ConfigError, match=named):
        build("timm", {"architecture": "mvitv2_tiny", "model_args": args})
