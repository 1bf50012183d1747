"""Whole models have as many parameters as their papers' repositories state."""

import pytest
import torch

from densevit.converters import build
from densevit.registry import MODELS

MICROSOFT = dict(num_convs=4, num_fcs=1, norm="BN", class_agnostic=False, loss=dict(kind="giou", box_weight=10.0))


@pytest.mark.parametrize(
    ("backbone", "head", "millions"),
    [
        (dict(type="Swin", arch="tiny"), dict(type="MaskRCNNHead"), 47.8),  # 48
        (dict(type="Swin", arch="small"), dict(type="MaskRCNNHead"), 69.1),  # 69
        (dict(type="Swin", arch="tiny"), dict(type="CascadeRCNNHead", box=MICROSOFT), 85.6),  # 86
        (dict(type="Swin", arch="base"), dict(type="CascadeRCNNHead", box=MICROSOFT), 145.0),  # 145
        (dict(type="PVT", arch="tiny"), dict(type="MaskRCNNHead"), 32.9),
        (dict(type="PVT", arch="small"), dict(type="MaskRCNNHead"), 44.1),
    ],
)
def test_parameters_of_the_published_detectors(backbone, head, millions):
    with torch.device("meta"):
        model = MODELS.build(
            dict(type="DensePredictor", backbone=backbone, neck=dict(type="FPN"), head=dict(head, num_classes=80))
        )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.051)


@pytest.mark.parametrize(
    ("source", "config", "millions"),
    [
        ("depth-anything", dict(encoder="vits", features=64, out_channels=[48, 96, 192, 384]), 24.8),
        ("depth-anything", dict(encoder="vitb", features=128, out_channels=[96, 192, 384, 768]), 97.5),
        ("depth-anything", dict(encoder="vitl"), 335.3),
        ("isl-org", dict(backbone="vitl16_384"), 343.0),
    ],
    ids=["Depth-Anything S", "Depth-Anything B", "Depth-Anything L", "DPT-L"],
)
def test_parameters_of_the_published_depth_models(source, config, millions):
    """Theirs hold a unit of the coarsest fusion block, too, and a norm or a token for masks, which nothing uses."""
    kind = "DepthAnythingV2" if source == "depth-anything" else "DPTDepthModel"
    with torch.device("meta"):
        model = build(source, dict(type=kind, kwargs=config))
    width, channels = model.backbone.cls_token.shape[2], model.neck[1].out_channels[0]
    unused = 2 * (9 * channels**2 + channels) + (width if source == "depth-anything" else 2 * width)
    count = sum(p.numel() for p in model.parameters()) + unused
    assert count / 1e6 == pytest.approx(millions, abs=0.051)
