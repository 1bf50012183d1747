"""Optimizers that step in one kernel step as before, and loaded states keep their way."""

import copy

import pytest
import torch

from densevit.engine.optim_wrapper import prefer_fused


def steps(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, count: int) -> torch.Tensor:
    for n in range(count):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()) * (n + 1)
        optimizer.step()
    return parameter.detach().clone()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(torch.optim.AdamW, {"weight_decay": 0.1}), (torch.optim.Adam, {}), (torch.optim.SGD, {"momentum": 0.9})],
)
def test_a_fused_step_is_the_same_step(kind, settings):
    plain, fused = (torch.nn.Parameter(torch.arange(7.0)) for _ in range(2))
    one, other = kind([plain], lr=0.1, **settings), kind([fused], lr=0.1, **settings)
    prefer_fused(other)
    assert other.param_groups[0]["fused"] is True
    torch.testing.assert_close(steps(other, fused, 4), steps(one, plain, 4))
    other.load_state_dict(copy.deepcopy(one.state_dict()))  # written without
    torch.testing.assert_close(steps(other, fused, 2), steps(one, plain, 2))


def test_what_the_settings_say_stays():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    for how in ({"fused": False}, {"foreach": True}, {"foreach": False}, {"capturable": True}):
        optimizer = torch.optim.AdamW(parameters, **how)
        before = optimizer.param_groups[0]["fused"]
        prefer_fused(optimizer)
        assert optimizer.param_groups[0]["fused"] is before
    prefer_fused(torch.optim.RMSprop(parameters))
