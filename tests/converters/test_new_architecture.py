"""A toy architecture of a toy project, added as CONTRIBUTING says: names, configuration, tolerated names, refusals."""

import pytest
import torch
from torch import nn

from densevit.converters import load_weights, translate
from densevit.converters.architectures import ARCHITECTURES
from densevit.converters.config_spec import ZERO, Architecture, ConfigSpec, Tolerated
from densevit.converters.key_mapping import invert, remap, rules
from densevit.converters.source import Source
from densevit.converters.sources import SOURCES
from densevit.errors import CheckpointError, ConfigError
from densevit.registry import MODELS


@MODELS.register_module()
class ToyConverted(nn.Module):
    """A stem, some layers, and a norm that a classifier lacks."""

    def __init__(self, dim: int, depth: int):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 2)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)


ARCHITECTURE = Architecture(
    "ToyConverted",
    keys={"toys": rules("!head. conv_stem.->stem. stage{+1}.fc.->layers.{}.")},
    configs={
        "toys": {
            "Toy": ConfigSpec(
                "ToyConverted",
                keys={"embed_dim": ("dim", 8), "layers": "depth"},
                fixed={"in_chans": 3, "drop_rate": ZERO},
                ignored="num_classes",
            )
        }
    },
    tolerated=Tolerated(new=(r"norm\..*",)),
)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "ToyConverted", ARCHITECTURE)
    monkeypatch.setitem(SOURCES, "toys", Source())


def test_its_configuration_is_translated_and_what_is_unknown_refused():
    assert translate("toys", {"type": "Toy", "layers": 2, "num_classes": 5}) == dict(
        type="ToyConverted", dim=8, depth=2
    )
    for wrong in ({"drop_rate": 0.1, "layers": 2}, {"layers": 2, "stochastic": True}, {"embed_dim": 4}):
        with pytest.raises(ConfigError, match=r"drop_rate|stochastic|lacks 'layers'"):
            translate("toys", {"type": "Toy", **wrong})


def test_its_weights_load_and_are_recognized_and_half_of_them_are_refused():
    model = MODELS.build(translate("toys", {"type": "Toy", "layers": 2}))
    theirs = remap(model.state_dict(), invert(ARCHITECTURE.keys["toys"])).state
    assert set(theirs) == {
        *(f"conv_stem.{kind}" for kind in ("weight", "bias")),
        *(f"stage{i}.fc.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
    }
    report = load_weights(model, {**theirs, "head.weight": torch.zeros(5, 8)})
    assert (report.scheme, report.ignored) == ("toys", ["head.weight"])
    assert report.newly_initialized == ["norm.weight", "norm.bias"]
    del theirs["stage2.fc.bias"]
    with pytest.raises(CheckpointError, match=r"lacks layers\.1\.bias"):
        load_weights(model, theirs)
