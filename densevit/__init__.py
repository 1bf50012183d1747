"""densevit: vision transformers as dense predictors, from one config file, on MMEngine's Runner.

Nothing heavy is imported here: `densevit.Predictor` and its like are looked up when they are first used.
"""

import importlib
import importlib.metadata
import warnings
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Predictor": "densevit.inference.predictor",
    "load_weights": "densevit.converters",
    "import_model": "densevit.converters",
    "config_path": "densevit.engine.config",
}
__all__ = ["__version__", *_LAZY]

# distributions that put files into the same import package
OWNERS = {
    "mmengine": ("mmengine", "mmengine-lite", "onedl-mmengine"),
    "mmcv": ("mmcv", "mmcv-lite", "mmcv-full", "onedl-mmcv"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _warn_of_two_owners() -> None:
    """pip lets two distributions overwrite each other's files without a word; removing either then breaks both."""
    for package, distributions in OWNERS.items():
        found = [name for name in distributions if _installed(name)]
        if len(found) > 1:
            warnings.warn(
                f"{' and '.join(found)} are both installed and own the same files of {package!r}: keep one, and "
                f"reinstall it (pip uninstall -y {' '.join(found)}; pip install {found[0]})",
                stacklevel=3,
            )


_warn_of_two_owners()
