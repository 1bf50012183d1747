"""bf16 autocast on CPU and GPU, and optimizers with few parameter groups and fused kernels."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from densevit.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs forward and losses under bf16 autocast on the model's device; MMEngine's AmpOptimWrapper refuses CPUs. bf16
    has float32's range, so that the loss is not scaled; weights and optimizer state stay float32."""

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


def merge_groups(optimizer: torch.optim.Optimizer) -> None:
    """Put parameters with equal settings into one group.

    MMEngine makes a group of every single parameter once `paramwise_cfg` is set; with a few hundred of them an
    optimizer cannot use its batched kernels. Call it before the first step.
    """
    merged: dict[tuple, dict] = {}
    for group in optimizer.param_groups:
        settings = tuple(sorted((k, repr(v)) for k, v in group.items() if k != "params"))
        if settings in merged:
            merged[settings]["params"].extend(group["params"])
        else:
            merged[settings] = group
    optimizer.param_groups[:] = list(merged.values())


def prefer_fused(optimizer: torch.optim.Optimizer) -> None:
    """Use torch's fused kernels of Adam, AdamW and SGD (a third of the time on CPUs) unless the config sets `fused` or
    `foreach`. Call it before the first step; a state that is loaded has its own setting."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        silent = group["fused"] is None and group["foreach"] is None
        other = group.get("capturable") or group["differentiable"]
        if silent and not other and all(_fusible(p) for p in group["params"]):
            group["fused"] = True


def _fusible(parameter: torch.Tensor) -> bool:
    return parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
