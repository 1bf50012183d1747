"""Files of weights: read safely, loaded with a report, written, fetched; what they carry beside the weights."""

import importlib
from typing import Any

MOVED = ("Pretrained", "build", "import_model", "load_weights", "translate")
"""Names whose home is densevit.converters."""


def __getattr__(name: str) -> Any:
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("densevit.converters"), name)
