"""Weighing the losses of several heads against each other."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from densevit.registry import MODELS


@MODELS.register_module()
class UncertaintyWeighting(nn.Module):
    """Learned weights: exp(-s) * loss + s for each head (Kendall et al., arXiv 1705.07115, equation 10).

    s, the logarithm of a head's variance, is a parameter; at its optimum exp(-s) = 1 / loss, so that every head pulls
    alike for any size of its loss.

    Args:
        names: of the heads; the model gives them.
        start: s at the beginning, by name; 0 where none is given.
    """

    def __init__(self, names: Sequence[str], start: Mapping[str, float] | None = None):
        super().__init__()
        start = start or {}
        self.log_variances = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(float(start.get(name, 0.0)))) for name in names}
        )

    def forward(self, by_head: Mapping[str, Mapping[str, Tensor | list[Tensor]]]) -> dict[str, dict]:
        """Losses by head and name, each weighed, and s of each head as `loss_weighting`."""
        balanced = {}
        for name, losses in by_head.items():
            s = self.log_variances[name]
            weight = torch.exp(-s)
            balanced[name] = {
                key: [weight * v for v in value] if isinstance(value, (list, tuple)) else weight * value
                for key, value in losses.items()
            }
            balanced[name]["loss_weighting"] = s
        return balanced
