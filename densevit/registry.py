"""densevit's branch of MMEngine's registries: what the `type=` strings of a config mean.

A class registers itself under its own name; the files named in `locations` are imported when a config first asks for
a name, so nothing has to be imported by hand. Only what a config can name is registered: models, data sets,
transforms, metrics and the Runner's parts. Layers and functions are imported like any other Python.
"""

import re
from collections.abc import Mapping
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from densevit.errors import ConfigError, nearest

LOCATIONS = {
    "MODELS": ["densevit.models"],
    "DATASETS": ["densevit.datasets"],
    "TRANSFORMS": ["densevit.datasets.transforms"],
    "METRICS": ["densevit.metrics"],
    "HOOKS": ["densevit.engine.runner"],
    "LOOPS": ["densevit.engine.runner"],
    "RUNNERS": ["densevit.engine.runner"],
    "DATA_SAMPLERS": ["densevit.engine.runner"],
    "OPTIM_WRAPPERS": ["densevit.engine.runner"],
    "OPTIM_WRAPPER_CONSTRUCTORS": ["densevit.engine.layer_decay"],
    "WEIGHT_INITIALIZERS": ["densevit.checkpoints"],
}


def _branch(name: str) -> Registry:
    """densevit's child of MMEngine's root registry `name`; an empty one keeps MMEngine from warning about it."""
    root = getattr(mmengine_registry, name)
    return Registry(root.name, parent=root, scope="densevit", locations=LOCATIONS.get(name, []))


_branches = {
    name: _branch(name) for name in dir(mmengine_registry) if isinstance(getattr(mmengine_registry, name), Registry)
}

MODELS = _branches["MODELS"]
DATASETS = _branches["DATASETS"]
TRANSFORMS = _branches["TRANSFORMS"]
METRICS = _branches["METRICS"]
HOOKS = _branches["HOOKS"]
LOOPS = _branches["LOOPS"]
RUNNERS = _branches["RUNNERS"]
DATA_SAMPLERS = _branches["DATA_SAMPLERS"]
OPTIM_WRAPPERS = _branches["OPTIM_WRAPPERS"]
OPTIM_WRAPPER_CONSTRUCTORS = _branches["OPTIM_WRAPPER_CONSTRUCTORS"]
WEIGHT_INITIALIZERS = _branches["WEIGHT_INITIALIZERS"]

SCOPES = ("densevit", "mmengine")
FETCHING = re.compile(r"pretrained(_cfg\w*)?|checkpoint_path|cache_dir")
"""Arguments by which timm fetches or opens a file."""


def check_registered(config: Any, path: str, registry: Registry = MODELS) -> None:
    """Refuse a model's configuration that is data, as a checkpoint carries it, and asks for more than its own parts.

    MMEngine imports and calls whatever `type=` names by its full path: here every one, however deep, has to be the name
    of a registered class. Arguments that fetch or open a file may not be set.

    Raises:
        ConfigError: the place and what stands there.
    """
    if isinstance(config, (list, tuple)):
        for index, item in enumerate(config):
            check_registered(item, f"{path}.{index}", registry)
    elif isinstance(config, str) and "://" in config:
        raise ConfigError(f"{path} is {config[:80]!r}: opening a file fetches nothing; take the address out.")
    if not isinstance(config, Mapping):
        return
    registry.import_from_location()
    names = registry._module_dict.keys() | registry.parent._module_dict.keys()
    for key, value in config.items():
        if key == "type":
            scope, _, name = value.rpartition(".") if isinstance(value, str) else ("", "", "")
            if name not in names or scope not in ("", *SCOPES):
                raise ConfigError(
                    f"{path}.type names {value!r}{nearest(name, names)}: a configuration that a file carries may name "
                    f"registered parts alone; nothing of it was built."
                )
        elif key == "_scope_" and value not in SCOPES:
            raise ConfigError(f"{path}._scope_ is {value!r}: only densevit's own parts are built.")
        elif FETCHING.fullmatch(str(key)) and value:
            raise ConfigError(
                f"{path}.{key} is {value!r}: opening a file fetches nothing and opens no other; take the setting out."
            )
        elif key not in ("classes", "semantic_classes"):
            check_registered(value, f"{path}.{key}", registry)
