"""Every registered part inherits its protocol and defines what the protocol has no default for."""

import inspect

import pytest
from torch import nn

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.models import protocols
from densevit.registry import MODELS

FOLDERS = {"backbones": protocols.Backbone, "necks": protocols.Neck, "heads": protocols.Head}
REQUIRED = {
    protocols.Backbone: ("forward",),
    protocols.Neck: ("forward",),
    protocols.Head: ("forward", "loss", "predict"),
    protocols.DenseHead: ("enlarge", "loss_by_feat", "rescale_fields", "tta_scores", "tta_decide"),
    protocols.Inference: ("maps", "predict"),
}
PARTS = [
    (part, kind)
    for part in MODELS.module_dict.values()
    for folder, kind in FOLDERS.items()
    if part.__module__.startswith(f"densevit.models.{folder}.")
]


@pytest.mark.parametrize(("part", "kind"), PARTS, ids=[part.__name__ for part, _ in PARTS])
def test_every_part_satisfies_its_protocol(part, kind):
    assert kind in part.__mro__
    for protocol in set(REQUIRED) & set(part.__mro__):
        for name in REQUIRED[protocol]:
            owner = next(base for base in part.__mro__ if name in vars(base))
            assert not owner.__module__.startswith(("densevit.models.protocols", "torch.")), f"{name} is not defined"
    takes = inspect.signature(part).parameters
    assert {"in_channels", "in_strides"} <= set(takes) or kind is protocols.Backbone


@pytest.mark.parametrize("name", ["WholeImage", "SlidingWindow"])
def test_inference_satisfies_its_protocol(name):
    part = MODELS.get(name)
    assert protocols.Inference in part.__mro__
    assert all(name in vars(part) for name in REQUIRED[protocols.Inference])


def test_a_part_without_its_protocol_is_refused_when_the_model_is_built():
    class Bare(nn.Module):
        out_channels, out_strides = (3,), (1,)

    head = dict(type="FCNHead", num_classes=2)
    with pytest.raises(ConfigError, match=r"model.backbone is a Bare, .*protocols.Backbone: add it to the bases"):
        MODELS.build(dict(type="DensePredictor", backbone=dict(type=Bare), head=head))
