"""Matches the state of optimizer and schedulers in a checkpoint with those of a run, whose config may have changed."""

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from densevit.engine.resuming import is_cpu_tensor, is_number
from densevit.errors import CheckpointError


def optimizer_layout(optimizer: Any, model: nn.Module) -> dict:
    """What a checkpoint holds of an optimizer besides its state: the class, and the number of state entries by the name
    of each parameter, in the order of the state's indices."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    counts = {names.get(id(p), str(i)): len(optimizer.state.get(p, ())) for i, p in enumerate(ordered)}
    return dict(type=type(optimizer).__name__, parameters=counts)


def match_optimizer(path: Any, wrapper: Any, model: nn.Module, content: dict) -> tuple[dict, list[str]]:
    """A checkpoint's optimizer, matched with this run's by the parameters' names.

    Args:
        path: of the checkpoint, for messages.
        wrapper: this run's, whose schedulers are built already.
        model: without its wrapper.
        content: of the checkpoint.

    Returns:
        tuple: the saved state with this run's settings, for `wrapper.load_state_dict`; and what the config has changed
            in the settings, in words.

    Raises:
        CheckpointError: it is another optimizer's, or its state does not fit the parameters.
    """

    def require(right: bool, why: str) -> None:
        if not right:
            raise CheckpointError(
                f"{path} cannot be resumed from: its optimizer {why}; resume with the config of that run, or "
                f"begin from its weights with --cfg-options load_from={path}."
            )

    saved, layout = content["optimizer"], content.get("optimizer_layout")
    present = optimizer_layout(wrapper.optimizer, model)
    members = _members(wrapper.optimizer.param_groups, present["parameters"])
    indices = [index for group in saved["param_groups"] for index in group["params"]]
    if isinstance(layout, dict) and isinstance(layout.get("parameters"), dict):
        kind, counts = layout.get("type"), layout["parameters"]
        require(kind == present["type"], f"is {kind!s:.40}, that of this run {present['type']}")
    else:  # MMEngine's: the parameters can be known by their order alone
        counts = dict.fromkeys(present["parameters"], 0)
        sizes = [len(group["params"]) for group in saved["param_groups"]]
        require(sizes == [len(names) for names in members], "groups the parameters otherwise than that of this run")
    distinct = len(counts) == len(indices) == len(set(indices)) and set(saved["state"]) <= set(indices)
    require(distinct, "has a state of other parameters than it lists")
    theirs = _members(saved["param_groups"], counts)
    settings = {name: group for group, names in zip(saved["param_groups"], theirs, strict=True) for name in names}
    states = {name: saved["state"].get(index, {}) for name, index in zip(counts, indices, strict=True)}
    changed, state, groups, first = {}, {}, [], 0
    if theirs != members:
        changed["groups"] = "the optimizer trains or groups the parameters otherwise than in the checkpoint"
    for ours, names in zip(wrapper.optimizer.param_groups, members, strict=True):
        fresh: dict[tuple, dict] = {}
        groups.append(dict(ours, params=list(range(first, first + len(names)))))
        for index, (name, parameter) in enumerate(zip(names, ours["params"], strict=True), first):
            group = settings.get(name, {})
            for key in ours.keys() & group.keys() - {"params"}:
                right = _alike(group[key], ours[key]) and not (is_number(ours[key]) and math.isinf(group[key]))
                require(right, f"has a {key} of {group[key]!r:.40}")
                old, new = (g.get(f"initial_{key}", g[key]) for g in (group, ours))
                if old != new and not key.startswith("initial_") and key not in ("foreach", "fused"):
                    changed.setdefault(key, f"the optimizer's {key} is {new!r} in place of the checkpoint's {old!r}")
            if not states.get(name) and not counts.get(name):
                continue
            shape = (parameter.shape, parameter.dtype)
            if shape not in fresh:
                fresh[shape] = _after_one_step(type(wrapper.optimizer), parameter, ours)
            wanted, found = fresh[shape], states[name]
            same = found.keys() == wanted.keys()
            require(same, f"holds {[*found]} of {name}, where that of this run needs {[*wanted]}")
            state[index] = {key: _fitted(value, wanted[key], parameter) for key, value in found.items()}
            odd = [k for k, v in state[index].items() if not _alike(v, wanted[k]) or (k == "step" and v < 0)]
            require(not odd, f"has a state of {name} that does not fit the parameter in {odd}")
        first += len(names)
    ours = wrapper.state_dict()
    more = {k: v for k, v in saved.items() if k in ours and k not in ("state", "param_groups") and _alike(v, ours[k])}
    require("loss_scaler" in more or "loss_scaler" not in ours.keys() & saved.keys(), "has a damaged loss_scaler")
    return dict(more, state=state, param_groups=groups), list(changed.values())


def _after_one_step(kind: type, parameter: nn.Parameter, group: dict) -> dict:
    """The state of an optimizer for a parameter of this shape, found by a step with zeros."""
    probe = nn.Parameter(torch.zeros(parameter.shape, dtype=parameter.dtype))
    probe.grad = torch.zeros_like(probe)
    settings = dict(group, foreach=False, fused=False, capturable=False)
    names = inspect.signature(kind).parameters.keys() & settings.keys() - {"params"}
    optimizer = kind([probe], **{name: settings[name] for name in names})
    optimizer.step()
    return dict(optimizer.state[probe])


def _fitted(value: Any, like: Any, parameter: nn.Parameter) -> Any:
    """A copy of a state with the strides of its parameter: fused kernels rely on both."""
    if torch.is_tensor(like) and like.dim() == 0 and is_number(value):  # of torch before 1.12
        return torch.tensor(float(value), dtype=like.dtype)
    if not torch.is_tensor(value) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value)


def _members(groups: list[dict], names: Iterable[str]) -> list[list[str]]:
    """The names of each group's parameters, of names in the order of all."""
    rest = iter(names)
    return [[name for _, name in zip(group["params"], rest, strict=False)] for group in groups]


def _alike(saved: Any, ours: Any) -> bool:
    """Whether a saved value has the type, shape and length of this run's; all types of numbers are alike."""
    if is_number(ours):
        return is_number(saved)
    if ours is None or isinstance(ours, bool):
        return saved is None or isinstance(saved, bool)
    if torch.is_tensor(ours):
        return is_cpu_tensor(saved) and (saved.shape, saved.dtype) == (ours.shape, ours.dtype)
    if isinstance(ours, dict):
        return isinstance(saved, dict) and saved.keys() == ours.keys() and all(_alike(saved[k], ours[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return isinstance(saved, (list, tuple)) and len(saved) == len(ours) and all(map(_alike, saved, ours))
    return type(saved) is type(ours)


def schedule_changes(path: Any, schedulers: list, saved: list[dict], regrouped: bool) -> list[str]:
    """What the config has changed in the schedulers, in words; empty where the saved states can be loaded.

    Raises:
        CheckpointError: the state of a scheduler is damaged.
    """
    if len(schedulers) != len(saved):
        return [f"param_scheduler has {len(schedulers)} parts in place of the checkpoint's {len(saved)}"]
    changes = []
    for index, (scheduler, old) in enumerate(zip(schedulers, saved, strict=True)):
        fresh, name = scheduler.state_dict(), f"param_scheduler[{index}]"
        if fresh.keys() != old.keys():
            changes.append(f"{name} is {type(scheduler).__name__} in place of another kind in the checkpoint")
            continue
        settings = {key for kind in type(scheduler).__mro__ for key in inspect.signature(kind.__init__).parameters}
        for key, value in fresh.items():
            if key in settings - {"last_step", "verbose"}:
                if value != old[key]:
                    changes.append(f"{name}.{key} is {value!r} in place of the checkpoint's {old[key]!r:.80}")
            elif not regrouped and not _alike(old[key], value):
                raise CheckpointError(f"{path} cannot be resumed from: {key} of {name} is {old[key]!r:.80}.")
    return changes


def fast_forward(schedulers: list, epochs: int, iterations: int, epoch_length: int) -> None:
    """Step schedulers from the start of a run to where a training of that length would have them."""
    by_epoch, by_iteration = ([s for s in schedulers if s.by_epoch is kind] for kind in (True, False))
    for iteration in range(1, max(iterations, epochs * epoch_length) + 1):
        ended = iteration % epoch_length == 0 and iteration // epoch_length <= epochs
        for scheduler in (by_iteration if iteration <= iterations else []) + (by_epoch if ended else []):
            if not getattr(scheduler, "need_val_args", False):
                scheduler.step()
