"""PVT v2 equals timm's on timm's own weights, at sizes that are no multiple of 32."""

import pytest
import torch

from densevit.converters import load_weights
from densevit.registry import MODELS

timm = pytest.importorskip("timm")
SIZES = {
    "b0": (203, 261),
    "b1": (117, 170),
    "b2": (101, 75),
    "b2_li": (101, 75),
    "b3": (67, 90),
    "b4": (67, 90),
    "b5": (67, 90),
}


@pytest.mark.parametrize("arch", SIZES)
def test_features_equal_timms(arch):
    torch.manual_seed(0)
    theirs = timm.create_model(f"pvt_v2_{arch}", features_only=True, pretrained=False).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # away from ones and zeros, so that every tensor shows in the outputs
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = MODELS.build(dict(type="PVTv2", arch=arch)).eval()
    report = load_weights(ours, theirs.state_dict())
    assert report.scheme == "timm"
    assert report.complete
    image = torch.randn(1, 3, *SIZES[arch])
    with torch.no_grad():
        for got, want in zip(ours(image), theirs(image), strict=True):
            assert got.shape == want.shape
            assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_a_classifier_of_timms_leaves_its_head_out():
    theirs = timm.create_model("pvt_v2_b0", pretrained=False)
    report = load_weights(MODELS.build(dict(type="PVTv2", arch="b0")), theirs.state_dict())
    assert report.scheme == "timm"
    assert report.ignored == ["head.weight", "head.bias"]
