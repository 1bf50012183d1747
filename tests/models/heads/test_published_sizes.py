"""Whole detectors have as many parameters as their papers' repositories state."""

import pytest
import torch

from densevit.registry import MODELS

MICROSOFT = dict(num_convs=4, num_fcs=1, norm="BN", class_agnostic=False, box_loss="giou", box_loss_weight=10.0)


@pytest.mark.parametrize(
    ("backbone", "head", "millions"),
    [
        (dict(type="Swin", arch="tiny"), dict(type="MaskRCNNHead"), 47.8),  # 48
        (dict(type="Swin", arch="small"), dict(type="MaskRCNNHead"), 69.1),  # 69
        (dict(type="Swin", arch="tiny"), dict(type="CascadeHead", box=MICROSOFT), 85.6),  # 86
        (dict(type="Swin", arch="base"), dict(type="CascadeHead", box=MICROSOFT), 145.0),  # 145
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
