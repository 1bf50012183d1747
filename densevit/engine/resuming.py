"""Checks that a run can resume from a checkpoint, in full, before anything is changed."""

import math
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from torch import nn
from torch.utils.data import DataLoader

from densevit.engine import rng_state
from densevit.errors import CheckpointError


def is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, (bool, complex)) and not math.isnan(value)


def is_cpu_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.layout, value.device.type) == (torch.strided, "cpu")


def _series(value: Any) -> bool:
    log, counts = [value[k].numpy() for k in ("__history__", "counts")] if isinstance(value, dict) else value.data
    return log.ndim == 1 and log.shape == counts.shape


FORM = {
    "meta": {
        "epoch": is_count,
        "iter": is_count,
        "epoch_length?": lambda x: is_count(x) and x > 0,
        "global_batch?": lambda x: is_count(x) and x > 0,
        "seed?": lambda x: is_count(x) and x < 2**32,
        "dataset_meta?": {"classes?": [object], "cat_ids?": [object]},
    },
    "state_dict": {"*": is_cpu_tensor},
    "ema_state_dict?": {"*": is_cpu_tensor},
    "gradients?": {"*": is_cpu_tensor},
    "optimizer": {
        "state": {"*": lambda x: all(is_cpu_tensor(v) or not torch.is_tensor(v) for v in x.values())},
        "param_groups": [{"params": [is_count]}],
    },
    "param_schedulers?": lambda x: all(isinstance(state, dict) for state in flat(x)),
    "message_hub": {
        "log_scalars": {"*": _series},
        "runtime_info": lambda x: all(is_number(v) for k, v in x.items() if str(k).startswith("best_score")),
        "resumed_keys": {},
    },
    "random_streams?": [lambda x: rng_state.check_rng_state(x) is None],
}
"""The form of a checkpoint that can be resumed from, see `_misfit`."""


def require_resumable(path: Any, content: dict) -> None:
    """Check that the parts of a checkpoint have the types, ranges and finite values that a resume needs.

    Raises:
        CheckpointError: the first part that does not.
    """
    misfit = "it holds weights alone" if "optimizer" not in content else _misfit(content, FORM, "")
    broken = None if misfit else non_finite(content)
    if misfit or broken:
        raise CheckpointError(f"{path} cannot be resumed from: {misfit or f'{broken} is not finite'}.")


def _misfit(value: Any, form: Any, where: str) -> str | None:
    """The first part of `value` that does not have its form, in words; None where all do.

    A form is a type, a function that returns whether a value is right (or raises), a list with the form of each item,
    or a dictionary of forms by key, where '*' is every key and a key that ends in '?' may be missing or None.
    """
    if isinstance(form, (dict, list)):
        right = isinstance(value, dict if isinstance(form, dict) else (list, tuple))
        parts = enumerate(value) if right and isinstance(form, list) else value.items() if right else ()
        forms = form if isinstance(form, dict) else {"*": form[0]}
        checked = [(key, item, forms["*"]) for key, item in parts] if "*" in forms else []
        for key, part in forms.items() if right and "*" not in forms else ():
            name = key.removesuffix("?")
            if name == key or value.get(name) is not None:
                checked.append((name, value.get(name), part))
        for key, item, part in checked:
            found = _misfit(item, part, f"{where}.{key}".lstrip("."))
            if found:
                return found
    else:
        try:
            right = isinstance(value, form) if isinstance(form, type) else form(value)
        except Exception:  # whatever a test meets
            right = False
    found = repr(value)[:40] if value is None or isinstance(value, (str, Number)) else f"a {type(value).__name__}"
    return None if right else f"{where} is missing or damaged ({found})"


def flat(parts: Any) -> list:
    """Schedulers or their states, from a list, or a dictionary of lists by optimizer, as one list."""
    return [item for part in parts.values() for item in part] if isinstance(parts, dict) else list(parts or [])


def non_finite(content: dict) -> str | None:
    """The first tensor of a checkpoint's weights, gradients or optimizer state that has a NaN or infinity, or None.

    Weights and buffers may hold -inf, as masks of attention do.
    """
    parts = {part: content.get(part) or {} for part in ("state_dict", "ema_state_dict", "gradients")}
    states = (content.get("optimizer") or {}).get("state", {})
    parts.update({f"optimizer.state.{index}": state for index, state in states.items()})
    for part, tensors in parts.items():
        for name, value in tensors.items():
            if not torch.is_tensor(value) or not (value.is_floating_point() or value.is_complex()):
                continue
            if not bool((value < math.inf if part.endswith("state_dict") else value.isfinite()).all()):
                return f"{part}.{name}"
    return None


def require_same_model(path: Any, content: dict, model: nn.Module, hooks: Iterable) -> None:
    """Check that weights, averaged weights and gradients are those of this run's model, by name and shape.

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
            names = ", ".join(map(str, odd[:8])) + (f" and {len(odd) - 8} more" if len(odd) > 8 else "")
            raise CheckpointError(
                f"{path} was written by a run of another model, which differs in {names}: resume with its config, "
                f"or use another --work-dir."
            )


def _form(value: torch.Tensor | None) -> tuple | None:
    return None if value is None else (tuple(value.shape), value.is_floating_point(), value.is_complex())


def position(path: Any, meta: dict, loader: DataLoader, by_epoch: bool) -> tuple[int, int, list[str]]:
    """Epoch and iteration of a checkpoint; with another global batch size, the iteration at the same image.

    Returns:
        tuple: epoch, iteration, and a warning where the number of images or iterations has changed.

    Raises:
        CheckpointError: the iteration is not one of the epoch.
    """
    epoch, iteration = meta["epoch"], meta["iter"]
    batch, length = (loader.batch_sampler.batch_size or 1) * get_world_size(), len(loader)
    was_batch, was_length = meta.get("global_batch", batch), meta.get("epoch_length", length)
    if "epoch_length" not in meta and epoch and iteration % epoch == 0:
        was_length = iteration // epoch  # MMEngine's, saved between two epochs
    done, changed = iteration - epoch * was_length, (was_length, was_batch) != (length, batch)
    if by_epoch and (done < 0 or (done > length and not changed)):
        raise CheckpointError(
            f"{path} cannot be resumed from: its iteration {iteration} does not lie in its epoch {epoch} of "
            f"{was_length} steps."
        )
    if not changed:
        return epoch, iteration, []
    if by_epoch:
        iteration = epoch * length + min(done * was_batch // batch, length)
    warning = (
        f"the checkpoint was written at {was_batch} images a step and {was_length} steps an epoch, now it is "
        f"{batch} and {length}: the run goes on at the same image, but not as it would have"
    )
    return epoch, iteration, [warning]
