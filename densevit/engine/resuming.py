"""What a run reads when it resumes: compared with what this run needs, in full, before anything is changed."""

import inspect
import math
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from torch import nn

from densevit.engine import streams
from densevit.engine.optim_wrapper import fusible
from densevit.errors import CheckpointError

IMPLEMENTATION = ("params", "foreach", "fused", "capturable", "differentiable")
"""Entries of an optimizer's parameter groups that say how a step is computed, not what it is."""


def require_resumable(path: Any, content: dict) -> None:
    """The parts of a checkpoint have the types, ranges and finite values that a resume needs, whatever the model.

    Raises:
        CheckpointError: the first part that has not.
    """

    def require(right: bool, what: str) -> None:
        if not right:
            raise CheckpointError(f"{path} cannot be resumed from: {what}.")

    require({"meta", "state_dict", "optimizer", "message_hub"} <= set(content), "it holds weights alone")
    meta, hub, optimizer = content["meta"], content["message_hub"], content["optimizer"]
    for key in ("meta", "optimizer", "message_hub"):
        require(isinstance(content[key], dict), f"{key} is no dictionary")
    for key in ("epoch", "iter"):
        require(_whole(meta.get(key)), f"meta.{key} is {meta.get(key)!r:.40}, no whole number from 0")
    for key in ("epoch_length", "global_batch"):
        require(key not in meta or (_whole(meta[key]) and meta[key] > 0), f"meta.{key} is {meta.get(key)!r:.40}")
    seed, described = meta.get("seed"), meta.get("dataset_meta")
    require(seed is None or (_whole(seed) and seed < 2**32), f"meta.seed is {seed!r:.40}, no whole number from 0")
    require(described is None or isinstance(described, dict), "meta.dataset_meta is no dictionary")
    for part in ("state_dict", "ema_state_dict", "gradients"):
        tensors = content.get(part)
        named = isinstance(tensors, dict) and all(
            isinstance(name, str) and _plain(value) for name, value in tensors.items()
        )
        require(named or (tensors is None and part != "state_dict"), f"{part} holds something else than named tensors")
    for rank, stream in enumerate(_sequence(content.get("random_streams") or [], require, "random_streams")):
        try:
            streams.check(stream)
        except Exception:  # whatever a generator raises on a state that is not its own
            require(False, f"the random streams of process {rank} are damaged")
    _require_hub(hub, require)
    groups = optimizer.get("param_groups")
    require(
        isinstance(optimizer.get("state"), dict)
        and all(isinstance(state, dict) for state in optimizer["state"].values())
        and all(_plain(v) for s in optimizer["state"].values() for v in s.values() if isinstance(v, torch.Tensor))
        and isinstance(groups, list)
        and all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups)
        and _distinct([index for group in groups for index in group["params"]]),
        "optimizer holds no state and parameter groups",
    )
    schedules = content.get("param_schedulers") or []
    for part in schedules.values() if isinstance(schedules, dict) else [schedules]:
        states = _sequence(part, require, "param_schedulers")
        require(all(isinstance(state, dict) for state in states), "param_schedulers holds something else than states")
    broken = non_finite(content)
    require(broken is None, f"{broken} is not finite")


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, (bool, complex))


def _distinct(indices: list) -> bool:
    return all(map(_whole, indices)) and len(set(indices)) == len(indices)


def _plain(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.layout, value.device.type) == (torch.strided, "cpu")


def _sequence(value: Any, require: Any, what: str) -> list:
    require(isinstance(value, (list, tuple)), f"{what} is no list")
    return list(value)


def _require_hub(hub: dict, require: Any) -> None:
    for key in ("log_scalars", "runtime_info", "resumed_keys"):
        require(isinstance(hub.get(key), dict), f"message_hub.{key} is no dictionary")
    for name, value in hub["log_scalars"].items():
        if isinstance(value, dict):
            history = [value.get("__history__"), value.get("counts")]
            tensors = all(isinstance(part, torch.Tensor) for part in history)
            history = [part.numpy() for part in history] if tensors else []
        else:
            history = list(getattr(value, "data", ())) if isinstance(value, HistoryBuffer) else []
        lengths = {part.shape for part in history if isinstance(part, np.ndarray) and part.ndim == 1}
        require(len(history) == 2 and len(lengths) == 1, f"message_hub.log_scalars.{name} is no series of numbers")
    for key, value in hub["runtime_info"].items():
        if str(key).startswith("best_score"):
            require(_number(value) and not math.isnan(value), f"{key} is {value!r:.40}, no number")


def non_finite(content: dict) -> str | None:
    """The first tensor of a checkpoint's weights, gradients or optimizer state that has a NaN or infinity, or None.

    Weights and buffers may hold -inf, which masks of attention consist of.
    """
    for part in ("state_dict", "ema_state_dict"):
        for name, value in (content.get(part) or {}).items():
            if value.is_floating_point() and not bool((value < math.inf).all()):
                return f"{part}.{name}"
    for name, value in (content.get("gradients") or {}).items():
        if not bool(value.isfinite().all()):
            return f"gradients.{name}"
    for index, state in (content.get("optimizer") or {}).get("state", {}).items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and not bool(value.isfinite().all()):
                return f"optimizer.state.{index}.{key}"
    return None


def require_same_model(path: Any, content: dict, model: nn.Module, hooks: Iterable) -> None:
    """Weights, averaged weights and gradients are those of this run's model, by name and shape.

    Raises:
        CheckpointError: they differ; the first eight names are given.
    """
    wanted = model.state_dict()
    averages = content.get("ema_state_dict")
    compared = [(content["state_dict"], wanted)]
    if averages is not None:
        hook = next((hook for hook in hooks if isinstance(hook, EMAHook)), None)
        ours = hook.ema_model.state_dict() if hook else {f"module.{name}": value for name, value in wanted.items()}
        compared.append(({k: v for k, v in averages.items() if hook or k in ours}, ours))
    parameters = dict(model.named_parameters())
    gradients = content.get("gradients") or {}
    compared.append((gradients, {name: parameters[name] for name in gradients if name in parameters}))
    for theirs, ours in compared:
        odd = [name for name in {**ours, **theirs} if _form(ours.get(name)) != _form(theirs.get(name))]
        if odd:
            names = ", ".join(odd[:8]) + (f" and {len(odd) - 8} more" if len(odd) > 8 else "")
            raise CheckpointError(
                f"{path} was written by a run of another model, which differs in {names}: resume with its config, "
                f"or use another --work-dir."
            )


def _form(value: torch.Tensor | None) -> tuple | None:
    return None if value is None else (tuple(value.shape), value.is_floating_point(), value.is_complex())


def optimizer_layout(optimizer: Any, model: nn.Module) -> dict:
    """What a checkpoint says of an optimizer beside its state: its class, and by each parameter's name in the order of
    the state's indices the number of its entries."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    counts = {names.get(id(p), str(i)): len(optimizer.state.get(p, ())) for i, p in enumerate(ordered)}
    return dict(type=type(optimizer).__name__, parameters=counts)


class OptimizerState:
    """A checkpoint's optimizer, matched with this run's by the parameters' names; `load` puts it in place.

    Args:
        path: of the checkpoint, for messages.
        wrapper: this run's, whose schedulers are built already.
        model: without its wrapper.
        content: of the checkpoint.

    Attributes:
        changed: settings that the config has changed: name -> (the checkpoint's, this run's).
        regrouped: parameters are trained or grouped otherwise than they were.

    Raises:
        CheckpointError: it is another optimizer's, or its state does not fit the parameters.
    """

    def __init__(self, path: Any, wrapper: Any, model: nn.Module, content: dict) -> None:
        self.path, self.wrapper, saved = path, wrapper, content["optimizer"]
        self.changed: dict[str, tuple] = {}
        self._state: dict[int, dict] = {}
        self._fresh: dict[tuple, dict | None] = {}
        layout, present = content.get("optimizer_layout"), optimizer_layout(wrapper.optimizer, model)
        members = _members(wrapper.optimizer.param_groups, list(present["parameters"]))
        indices = [index for group in saved["param_groups"] for index in group["params"]]
        if isinstance(layout, dict) and isinstance(layout.get("parameters"), dict):
            if layout.get("type") != present["type"]:
                self._refuse(f"its optimizer is {layout.get('type')!s:.40}, that of this run {present['type']}")
            counts = layout["parameters"]
        else:  # MMEngine's: the parameters can be known by their order alone
            counts = dict.fromkeys(present["parameters"], 0)
            if [len(g["params"]) for g in saved["param_groups"]] != [len(names) for names in members]:
                self._refuse("its optimizer groups the parameters otherwise than that of this run")
        if len(counts) != len(indices) or not set(saved["state"]) <= set(indices):
            self._refuse("its optimizer state is of other parameters than it lists")
        theirs = _members(saved["param_groups"], list(counts))
        self.regrouped = theirs != members
        groups = {name: group for group, names in zip(saved["param_groups"], theirs, strict=True) for name in names}
        states = {name: saved["state"].get(index, {}) for name, index in zip(counts, indices, strict=True)}
        self._groups, first = [], 0
        for group, names in zip(wrapper.optimizer.param_groups, members, strict=True):
            for index, (name, parameter) in enumerate(zip(names, group["params"], strict=True), first):
                if name in groups:
                    self._compare_settings(groups[name], group)
                if states.get(name) or counts.get(name):
                    self._state[index] = self._fitting(name, parameter, group, states[name])
            old = next((groups[name] for name in names if name in groups), {})
            self._groups.append((group, old, list(range(first, first + len(names)))))
            first += len(names)
        ours = wrapper.state_dict()
        self._more = {k: v for k, v in saved.items() if k in ours and k not in ("state", "param_groups")}
        odd = [key for key, value in self._more.items() if not _alike(value, ours[key])]
        self.regrouped |= "base_param_settings" in odd
        if set(odd) - {"base_param_settings"}:
            self._refuse(f"its optimizer's {odd[0]} is damaged")

    def _refuse(self, why: str) -> None:
        raise CheckpointError(
            f"{self.path} cannot be resumed from: {why}; resume with the config of that run, or begin from its "
            f"weights with --cfg-options load_from={self.path}."
        )

    def _compare_settings(self, saved: dict, ours: dict) -> None:
        for key in ours.keys() & saved.keys() - {*IMPLEMENTATION}:
            if not _alike(saved[key], ours[key]) or (_number(ours[key]) and not math.isfinite(saved[key])):
                self._refuse(f"its optimizer's {key} is {saved[key]!r:.40}")
            old, new = (group.get(f"initial_{key}", group[key]) for group in (saved, ours))
            if old != new and not key.startswith("initial_"):
                self.changed.setdefault(key, (old, new))

    def _fitting(self, name: str, parameter: nn.Parameter, group: dict, state: dict) -> dict:
        """The state of one parameter in tensors of its own, strided as the parameter: fused kernels rely on both."""
        kind = (tuple(parameter.shape), parameter.dtype, id(group))
        if kind not in self._fresh:
            self._fresh[kind] = self._after_one_step(parameter, group)
        wanted = self._fresh[kind]
        if wanted is None:  # an optimizer that cannot be tried: at least the sizes
            wanted = {k: parameter if torch.is_tensor(v) and v.numel() > 1 else v for k, v in state.items()}
        if state.keys() != wanted.keys():
            found = ", ".join(map(str, state)) or "nothing"
            self._refuse(f"its optimizer holds {found} of {name}, where this run's needs {', '.join(wanted)}")
        fitting = {}
        for key, value in state.items():
            like = wanted[key]
            if torch.is_tensor(like) and like.dim() == 0 and _number(value):
                value = torch.tensor(float(value), dtype=like.dtype)
            if not _alike(value, like) or (key == "step" and value < 0):
                form = f"{value.dtype} {tuple(value.shape)}" if torch.is_tensor(value) else repr(value)[:40]
                self._refuse(f"its optimizer's {key} of {name} is {form}, which does not fit")
            if torch.is_tensor(value):
                same = value.shape == parameter.shape
                own = torch.empty_like(parameter if same else value, dtype=value.dtype, device="cpu")
                value = own.copy_(value)
            fitting[key] = value
        return fitting

    def _after_one_step(self, parameter: nn.Parameter, group: dict) -> dict | None:
        """What this optimizer keeps of such a parameter, found by a step of zeros."""
        probe = nn.Parameter(torch.zeros(parameter.shape, dtype=parameter.dtype))
        probe.grad = torch.zeros_like(probe)
        settings = {key: value for key, value in group.items() if key not in IMPLEMENTATION}
        try:
            optimizer = type(self.wrapper.optimizer)([dict(settings, params=[probe])])
            optimizer.step()
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return None
        return dict(optimizer.state[probe])

    def load(self, rescheduled: bool) -> None:
        """Put it in place; settings that the config has changed stay this run's.

        Args:
            rescheduled: scheduled settings stay as at the start of a run, too, for `fast_forward`.
        """
        groups = []
        for group, saved, indices in self._groups:
            settings = dict(group, params=indices)
            for key, value in saved.items():
                name = key.removeprefix("initial_")
                scheduled = f"initial_{name}" in settings or f"initial_{name}" in saved
                if key in ("fused", "foreach"):
                    fits = value is None or (value is True and all(map(fusible, group["params"]))) or value is False
                    settings[key] = value if fits else None
                elif key in settings and key not in IMPLEMENTATION and name not in self.changed:
                    settings[key] = settings[key] if rescheduled and scheduled else value
            groups.append(settings)
        kept = rescheduled or self.changed
        more = {k: v for k, v in self._more.items() if not (k == "base_param_settings" and kept)}
        self.wrapper.load_state_dict(dict(more, state=self._state, param_groups=groups))


def _members(groups: list[dict], names: list[str]) -> list[list[str]]:
    """The names of each group's parameters, of names in the order of all."""
    rest = iter(names)
    return [[name for _, name in zip(group["params"], rest, strict=False)] for group in groups]


def _alike(saved: Any, ours: Any) -> bool:
    """Whether a saved value can stand for this run's: of its type, shape and length; numbers may be of any kind."""
    if _number(ours):
        return _number(saved) and not math.isnan(saved)
    if ours is None or isinstance(ours, bool):
        return saved is None or isinstance(saved, bool)
    if torch.is_tensor(ours):
        return torch.is_tensor(saved) and (saved.shape, saved.dtype, saved.layout) == (
            ours.shape,
            ours.dtype,
            ours.layout,
        )
    if isinstance(ours, dict):
        return isinstance(saved, dict) and saved.keys() == ours.keys() and all(_alike(saved[k], ours[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return isinstance(saved, (list, tuple)) and len(saved) == len(ours) and all(map(_alike, saved, ours))
    return type(saved) is type(ours)


def schedule_changes(path: Any, schedulers: list, saved: list[dict]) -> list[str]:
    """What the config has changed in the schedules, in words; nothing where the saved states can be taken as they are.

    Raises:
        CheckpointError: a schedule stands at something that is no number.
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
            elif not _alike(old[key], value):
                raise CheckpointError(f"{path} cannot be resumed from: {key} of {name} is {old[key]!r:.80}.")
    return changes


def fast_forward(schedulers: list, epochs: int, iterations: int, epoch_length: int) -> None:
    """Step schedules that stand at the start of a run as a training of that length would have done."""
    by_epoch, by_iteration = ([s for s in schedulers if s.by_epoch is kind] for kind in (True, False))
    for iteration in range(1, max(iterations, epochs * epoch_length) + 1):
        ended = iteration % epoch_length == 0 and iteration // epoch_length <= epochs
        for scheduler in (by_iteration if iteration <= iterations else []) + (by_epoch if ended else []):
            if not getattr(scheduler, "need_val_args", False):
                scheduler.step()
