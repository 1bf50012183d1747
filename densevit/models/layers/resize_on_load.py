"""Tensors of a file that have another size than ours: resized while they are loaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn


def resize_on_load(module: nn.Module, name: str, resize: Callable[[Tensor], Tensor | None]) -> None:
    """Load `resize(tensor)` where a file's tensor for a parameter has another shape.

    Args:
        module: to which the parameter belongs; one that is absent or None is left alone.
        name: of the parameter.
        resize: from the file's tensor to one of our shape, or None where it fits in no way: then loading says so. A
            method of the module or a function of a file, as models are copied and pickled.
    """
    module.register_load_state_dict_pre_hook(partial(_hook, name=name, resize=resize))


def _hook(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any, name: str, resize: Callable) -> None:
    given, ours = state_dict.get(prefix + name), getattr(module, name)
    if given is not None and ours is not None and given.shape != ours.shape:
        fitted = resize(given)
        if fitted is not None:
            state_dict[prefix + name] = fitted
