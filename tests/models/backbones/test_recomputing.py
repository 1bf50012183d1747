"""Activations are recomputed in the stages that were asked for, and nowhere else."""

import pytest
import torch

from densevit.errors import ConfigError
from densevit.registry import MODELS

FAMILIES = [
    dict(
        type="PVT", arch=dict(embed_dims=(16, 16), depths=(2, 1), num_heads=(1, 1), mlp_ratios=(2, 2), sr_ratios=(2, 1))
    ),
    dict(type="Swin", arch=dict(embed_dim=16, depths=(2, 1), num_heads=(1, 2), mlp_ratio=2), window_size=4),
]


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config["type"])
@pytest.mark.parametrize(("chosen", "calls"), [(False, 3), (True, 6), ((0,), 5), ([1], 4)])
def test_the_stages_asked_for_are_recomputed(config, chosen, calls):
    backbone = MODELS.build(dict(config, out_indices=(0, 1), with_checkpointing=chosen)).train()
    ran = []
    for module in backbone.modules():
        if type(module).__name__ == "Block":
            module.norm1.register_forward_hook(lambda *_: ran.append(1))
    sum(x.sum() for x in backbone(torch.rand(1, 3, 32, 32))).backward()
    assert len(ran) == calls


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config["type"])
def test_a_stage_that_there_is_not_is_named(config):
    with pytest.raises(ConfigError, match=r"with_checkpointing is \(4,\)"):
        MODELS.build(dict(config, out_indices=(0, 1), with_checkpointing=(4,)))
