"""load_weights: weights of this project or of others into a model, with a receipt."""

import os
import re
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from densevit.checkpoints.architectures import FRESH, GROWN, OPTIONAL, UNUSED
from densevit.checkpoints.convert import convert
from densevit.checkpoints.reading import read_file
from densevit.checkpoints.receipt import Receipt
from densevit.checkpoints.rules import Renamed
from densevit.errors import CheckpointError

WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "ema")
"""Keys under which files keep the weights, in the order in which they are looked for."""
LAST_NORM = re.compile(r"(.*\.)?(fc_norm|norm|layernorm)\.weight")


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


def parts_of(model: nn.Module) -> dict[str, str]:
    """Prefix of each part -> name of its class; {"": class} for a part alone."""
    if type(model).__name__ != "DensePredictor":
        return {"": type(model).__name__}
    parts = {}
    for name, child in model.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            parts |= {f"{name}.{inner}.": type(module).__name__ for inner, module in child.named_children()}
        else:
            parts[f"{name}."] = type(child).__name__
    return parts


def load_weights(
    model: nn.Module,
    path_or_state: str | os.PathLike | Mapping,
    source: str | None = None,
    strict: bool = True,
    file: str | None = None,
    new_where_odd: Callable[[], Collection[str]] = tuple,
) -> Receipt:
    """Load weights into `model`, whoever's names they have, and say what became of each.

    The scheme is recognised by the names, part by part. A table of positions of another size is resized by its module.
    Nothing of the model changes when the file is refused.

    Args:
        model: a whole model, or a part: a classification file goes into `model.backbone`.
        path_or_state: a file (`.pth`, `.safetensors`, ...; read without running anything in it), or what one holds.
        source: whose names they are ('whai362', 'mmdet', 'timm', 'densevit'), instead of recognising them.
        strict: refuse unless every tensor of the model is in the file and every tensor of the file has a place. What is
            left out on purpose (classifiers, computed buffers) counts as placed, and what a classifier's file cannot
            have (norms of a dense model's maps) as fresh. False: load what fits.
        file: what receipt and errors call the weights; None: the path.
        new_where_odd: gives the names of the model that stay as they are, and count as fresh, where the file has them
            in another shape; asked only where a shape differs.

    Returns:
        Receipt: `str(receipt)` is one line, `receipt.table()` the whole.

    Raises:
        CheckpointError: unreadable or unsafe file, no weights in it, or (strict) anything missing, unexpected or of
            another shape; the error's `receipt` attribute holds the account.
    """
    if isinstance(path_or_state, Mapping):
        content, file = path_or_state, file or "the given state dict"
    else:
        content, file = read_file(path_or_state), file or os.fspath(path_or_state)
    current = model.state_dict()
    wanted = {key: tuple(value.shape) for key, value in current.items()}
    try:
        scheme, renamed = convert(state_of(content, file, wanted), wanted, parts_of(model), source)
    except CheckpointError as error:
        raise CheckpointError(str(error) if file in str(error) else f"{file} {error}") from error
    foreign = {name: " + ".join(renamed.origin[name]) for name in renamed.state if name not in wanted}
    empty = [name for name in foreign if not renamed.state[name].numel()]  # no registers are a tensor of none
    unused = empty + _named(model, UNUSED, list(foreign)) + _left_out(model, list(foreign))
    unused = [foreign.pop(name) for name in dict.fromkeys(unused)]
    fresh = _fresh(model, wanted, renamed, renamed.dropped + unused)
    receipt = Receipt(
        scheme,
        file,
        missing=[key for key in wanted if key not in renamed.state and key not in fresh],
        fresh=fresh,
        unexpected=renamed.unknown + list(dict.fromkeys(foreign.values())),
        dropped=renamed.dropped + unused,
    )
    state = {key: value for key, value in renamed.state.items() if key in wanted}
    odd = {k: (tuple(v.shape), wanted[k]) for k, v in state.items() if tuple(v.shape) != wanted[k]}
    for key in (key for key in (new_where_odd() if odd else ()) if odd.pop(key, None)):
        del state[key]
        receipt.fresh.append(key)
    if strict and not receipt.complete:
        receipt.mismatched = odd
        raise _refusal(receipt)
    if odd:
        receipt.mismatched = _try_resizing(model, state, odd)
        if strict and receipt.mismatched:
            raise _refusal(receipt)
        state = {key: value for key, value in state.items() if key not in receipt.mismatched}
    model.load_state_dict(state, strict=False)
    receipt.resized = {key: shapes for key, shapes in odd.items() if key in state}
    receipt.loaded = list(state)
    return receipt


def _fresh(model: nn.Module, wanted: Mapping, renamed: Renamed, dropped: list[str]) -> list[str]:
    """Names of a part that are in no file of a classifier, where this is one: its own last norm was left out; of what
    was added to a pretrained network, where the file has nothing of it; and those that no file needs to have."""
    absent = [key for key in wanted if key not in renamed.state]
    fresh = _named(model, OPTIONAL, absent)
    for prefix, kind in parts_of(model).items():
        for pattern in GROWN.get(kind, ()):
            names = _named(model, {kind: pattern}, [key for key in wanted if key.startswith(prefix)])
            if set(names) <= set(absent):
                fresh += names
    if any(LAST_NORM.fullmatch(key) for key in dropped):
        for prefix, kind in parts_of(model).items():
            names = _named(model, {kind: FRESH.get(kind, "")}, [key for key in wanted if key.startswith(prefix)])
            if set(names) <= set(absent):
                fresh += names
    return fresh


def _named(model: nn.Module, table: Mapping[str, str], names: list[str]) -> list[str]:
    """Those of our names that a table's expression for the class of their part fits."""
    found = []
    for prefix, kind in parts_of(model).items():
        if kind in table:
            found += [n for n in names if n.startswith(prefix) and re.fullmatch(table[kind], n.removeprefix(prefix))]
    return found


def _left_out(model: nn.Module, names: list[str]) -> list[str]:
    """Those of our names that a part says it does without (`left_out`)."""
    found = []
    for prefix in parts_of(model):
        left_out = getattr(model.get_submodule(prefix.rstrip(".")), "left_out", ())
        found += [n for n in names if n.startswith(prefix) and n.removeprefix(prefix) in left_out]
    return found


def _try_resizing(model: nn.Module, state: Mapping[str, Tensor], odd: Mapping) -> dict:
    """Which tensors of other shape no module resizes. The model is left as it was."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items() if key in odd}
    try:
        model.load_state_dict({key: state[key] for key in odd}, strict=False)
    except RuntimeError as error:  # torch names each tensor that it could not place
        return {key: shapes for key, shapes in odd.items() if f"size mismatch for {key}:" in str(error)}
    finally:
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key in before:
                    value.copy_(before[key])
    return {}


def _refusal(receipt: Receipt) -> CheckpointError:
    error = CheckpointError(receipt.refusal())
    error.receipt = receipt
    return error
