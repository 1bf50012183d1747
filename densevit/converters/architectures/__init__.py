"""Every architecture of which other projects have weights, one file each: a new file here is found by itself."""

import importlib
import pkgutil
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import torch

from densevit.converters.config_spec import ConfigReader, UnsupportedModelError
from densevit.registry import MODELS

_modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
ARCHITECTURES = {m.ARCHITECTURE.name: m.ARCHITECTURE for m in _modules if "ARCHITECTURE" in vars(m)}
"""By our class; files without one hold configurations of another's."""
FALLBACKS = {"mmdet": "pvt", "mmseg": "pvt"}
"""Sources whose older versions have the backbones of another."""


def translate_part(source: str, reader: ConfigReader) -> dict[str, Any]:
    """Our configuration of one part. Raises UnsupportedModelError where densevit has no counterpart."""
    for name in (source, FALLBACKS.get(source)):
        known = {}
        for architecture in ARCHITECTURES.values():
            known |= architecture.configs.get(name, {})
        patterns = [kind for kind in known if kind is not None and "*" in kind and fnmatch(str(reader.type), kind)]
        for kind in (reader.type, *patterns):
            if kind in known:
                return known[kind](reader)
    raise UnsupportedModelError(
        f"{reader.where}.type is {reader.type!r} of {source}, which densevit has no counterpart of."
    )


def maps_of(
    backbone: Mapping[str, Any], neck: Mapping[str, Any] | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Channels and strides of the maps that our configuration of a backbone, or of a neck behind it, gives, as it
    publishes them itself."""
    with torch.device("meta"):
        built = MODELS.build(dict(backbone))
        if neck is not None:
            known = {"in_channels": built.out_channels, "in_strides": built.out_strides}
            built = MODELS.build(dict(neck), default_args=known)
    return tuple(built.out_channels), tuple(built.out_strides)
