"""Layer-wise learning-rate decay: the closer a layer of a pretrained backbone is to the image, the lower its rate.

In a config: `optim_wrapper=dict(constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(decay_rate=0.7,
...))`.
"""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from densevit.errors import ConfigError
from densevit.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's DefaultOptimWrapperConstructor, with learning rates scaled by decay_rate to the power of a layer's
    distance from the head.

    With n blocks, the scale is decay_rate ** (n - i) for block i (from 0), decay_rate ** (n + 1) for the patch and
    position embeddings, and 1 for all else, new parts of the backbone included (BEiT, arXiv 2106.08254, section 3.2;
    ViTDet's repository). The backbone gives the layer of a parameter (`num_layers`, `layer_of`).

    Args:
        optim_wrapper_cfg: as MMEngine's.
        paramwise_cfg: as MMEngine's, with `decay_rate`, above 0 and at most 1.

    Raises ConfigError without a decay_rate, or for a backbone whose layers have no order.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay_rate = (paramwise_cfg or {}).get("decay_rate")
        if not isinstance(self.decay_rate, int | float) or not 0 < self.decay_rate <= 1:
            raise ConfigError(
                f"optim_wrapper.paramwise_cfg.decay_rate is {self.decay_rate!r}: it has to be above 0 and at most 1."
            )

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **kwargs: Any) -> None:
        """MMEngine's walk over the modules; after the last, the groups (of one parameter each) get their rates."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        rates = layer_rates(module, self.decay_rate)
        for group in params:
            group["lr"] = group.get("lr", self.base_lr) * rates.get(id(group["params"][0]), 1.0)


def layer_rates(model: nn.Module, decay_rate: float) -> dict[int, float]:
    """id of each of the backbone's parameters -> factor of its learning rate."""
    backbone = getattr(model, "backbone", None)
    if backbone is None or not backbone.num_layers:
        raise ConfigError(
            "optim_wrapper.constructor is 'LayerDecayOptimWrapperConstructor', but the layers of "
            f"{type(backbone or model).__name__} have no order: leave constructor and decay_rate out."
        )
    top = backbone.num_layers + 1
    return {id(p): decay_rate ** (top - backbone.layer_of(name)) for name, p in backbone.named_parameters()}
