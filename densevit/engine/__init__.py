"""MMEngine's Runner with exact resume, atomic checkpoints and config checks. Submodules are imported on first use."""

import importlib
from typing import Any

_LAZY = {
    "Runner": "densevit.engine.runner",
    "read_config": "densevit.engine.config",
    "config_path": "densevit.engine.config",
    "parse_options": "densevit.engine.config",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
