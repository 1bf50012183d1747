"""Tensors by our names into a model, with a load report; nothing of the model changes when they are refused."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from densevit.checkpoints.load_report import LoadReport
from densevit.errors import CheckpointError

WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "ema")
"""Keys under which files keep the weights, in the order in which they are looked for."""


def state_of(content: Mapping, file: str, wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors by name out of what a file holds: unwrapped, without what torch.compile, parallel training and
    modules around the model put into the names (`_orig_mod.` anywhere, `module.` or `model.` before every one).

    Args:
        wanted: names as they should be; once one of them is there, nothing more is taken off.

    Raises CheckpointError where there are none, or where something else lies among them.
    """
    state: Mapping = content
    for _ in range(3):  # {'model': {'state_dict': ...}} is as deep as they come
        inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = inner
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors or others:
        held = ", ".join((others or [str(key) for key in content])[:8]) or "nothing"
        raise CheckpointError(f"{file} holds no weights by name: it has {held} where tensors were expected.")
    plain = {key.replace("_orig_mod.", ""): value for key, value in tensors.items()}
    if len(plain) < len(tensors):
        raise CheckpointError(f"{file} holds tensors twice, with and without `_orig_mod.` in their names; remove one.")
    if all(key.startswith("module.") or key == "n_averaged" for key in plain):
        plain.pop("n_averaged", None)  # of torch's AveragedModel
    while plain and plain.keys().isdisjoint(wanted):
        prefix = next((p for p in ("module.", "model.") if all(key.startswith(p) for key in plain)), None)
        if prefix is None:
            break
        plain = {key.removeprefix(prefix): value for key, value in plain.items()}
    return plain


def load_state(
    model: nn.Module,
    state: dict[str, Tensor],
    report: LoadReport,
    strict: bool,
    new_where_odd: Callable[[], Collection[str]] = tuple,
) -> LoadReport:
    """Load tensors by the model's own names. A table of another size is resized by its module.

    Args:
        report: what became of the file's other names, and what the model lacks.
        strict: refuse anything missing, unexpected or of another shape.
        new_where_odd: see `load_weights`.

    Raises:
        CheckpointError: refused; the error's `load_report` attribute holds the report.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    odd = {k: (tuple(v.shape), wanted[k]) for k, v in state.items() if tuple(v.shape) != wanted[k]}
    for key in (key for key in (new_where_odd() if odd else ()) if odd.pop(key, None)):
        del state[key]
        report.newly_initialized.append(key)
    if strict and not report.complete:
        report.mismatched = odd
        raise _refused(report)
    if odd:
        report.mismatched = _not_resized(model, state, odd)
        if strict and report.mismatched:
            raise _refused(report)
        state = {key: value for key, value in state.items() if key not in report.mismatched}
    model.load_state_dict(state, strict=False)
    report.resized = {key: shapes for key, shapes in odd.items() if key in state}
    report.loaded = list(state)
    return report


def _not_resized(model: nn.Module, state: Mapping[str, Tensor], odd: Mapping) -> dict:
    """Which tensors of other shape no module resizes. The model is left as it was."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items() if key in odd}
    try:
        model.load_state_dict({key: state[key] for key in odd}, strict=False)
    except RuntimeError as error:  # torch names each tensor that does not fit
        return {key: shapes for key, shapes in odd.items() if f"size mismatch for {key}:" in str(error)}
    finally:
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key in before:
                    value.copy_(before[key])
    return {}


def _refused(report: LoadReport) -> CheckpointError:
    error = CheckpointError(report.error())
    error.load_report = report
    return error
