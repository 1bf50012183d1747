"""Every architecture of which other projects have weights: a new file here is found by itself, by its ARCHITECTURES.

A file holds one architecture: the names of its tensors and its configurations in each source (see
converters/architecture.py), as data. A small one shows all that there is:

    KEYS = rules("!head. conv_stem.->stem. stage{+1}.fc.->layers.{}.")
    CONFIG = ConfigSpec("Toy", keys={"embed_dim": ("dim", 8), "layers": "depth"}, fixed={"in_chans": 3})
    ARCHITECTURES = (Architecture("Toy", {"timm": KEYS}, {"timm": {"toy_*": CONFIG}}),)
"""

import importlib
import pkgutil
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import torch

from densevit.converters.config_spec import ConfigReader, UnsupportedModelError
from densevit.registry import MODELS

_modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
ARCHITECTURES = {made.name: made for module in _modules for made in getattr(module, "ARCHITECTURES", ())}
"""By our class; files without one hold configurations of another's."""
ALSO = {"mmdet": "pvt", "mmseg": "pvt", "pvt": "mmdet"}
"""Sources that have parts of another, too: OpenMMLab's older versions around the backbones of PVT's repository."""


def translate_part(source: str, reader: ConfigReader) -> dict[str, Any]:
    """Our configuration of one part. Raises UnsupportedModelError where densevit has no counterpart."""
    for name in (source, ALSO.get(source)):
        for architecture in ARCHITECTURES.values():
            for kind, spec in architecture.configs.get(name, {}).items():
                if kind == reader.type or (kind is not None and "*" in kind and fnmatch(str(reader.type), kind)):
                    return spec(reader)
    raise UnsupportedModelError(
        f"{reader.where}.type is {reader.type!r} of {source}, which densevit has no counterpart of."
    )


def maps_of(part: Mapping[str, Any], **given: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Channels and strides of the maps that our configuration of a part gives, as it publishes them itself. given: what
    a model gives a neck, `in_channels` and `in_strides`."""
    with torch.device("meta"):
        built = MODELS.build(dict(part), default_args=given)
    return tuple(built.out_channels), tuple(built.out_strides)
