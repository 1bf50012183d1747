"""densevit's children of MMEngine's registries, in which the `type=` strings of a config are looked up.

A class registers itself under its own name; the modules in `LOCATIONS` are imported when a name is first looked up.
Only what a config can name is registered: models, datasets, transforms, metrics and parts of the Runner.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from densevit.errors import ConfigError, suggest

LOCATIONS = {
    "MODELS": [
        "densevit.models",
        "densevit.inference.whole_image",
        "densevit.inference.sliding_window",
        "densevit.inference.test_time_augmentation",
    ],
    "DATASETS": ["densevit.datasets"],
    "TRANSFORMS": ["densevit.datasets.transforms"],
    "METRICS": ["densevit.metrics"],
    "HOOKS": ["densevit.engine.runner", "densevit.engine.time_limit"],
    "LOOPS": ["densevit.engine.runner"],
    "RUNNERS": ["densevit.engine.runner"],
    "DATA_SAMPLERS": ["densevit.engine.runner"],
    "OPTIM_WRAPPERS": ["densevit.engine.runner"],
    "OPTIM_WRAPPER_CONSTRUCTORS": ["densevit.engine.layer_decay"],
    "WEIGHT_INITIALIZERS": ["densevit.converters"],
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
NAMING = ("type", "ema_type", "runner_type", "constructor")
"""Keys whose value is the name of a part."""
LARGEST = 1 << 20
FETCHING = re.compile(r"pretrained(_cfg\w*)?|checkpoint_path|cache_dir")
"""Arguments by which timm fetches or opens a file."""


def check_registered(config: Any, path: str, names: Collection[str] | None = None) -> None:
    """Check that a configuration that is data names registered classes alone, at any depth.

    MMEngine imports and calls whatever `type=` names by its full path. Arguments that fetch or open a file may not be
    set either.

    Args:
        config: the settings at `path`.
        path: for messages, 'model.backbone'.
        names: the allowed names; None for a model's config in a checkpoint: names of models, and no URLs.

    Raises:
        ConfigError: the first setting that is not allowed.
    """
    if isinstance(config, (list, tuple)):
        for index, item in enumerate(config):
            check_registered(item, f"{path}.{index}", names)
    elif names is None and isinstance(config, str) and "://" in config:
        raise ConfigError(f"{path} is {config[:80]!r}: opening a file fetches nothing; remove the URL.")
    elif names is None and isinstance(config, int) and abs(config) > LARGEST:
        raise ConfigError(f"{path} is {config}, and no part of a model takes more than {LARGEST}.")
    if not isinstance(config, Mapping):
        return
    if (known := names) is None:
        MODELS.import_from_location()
        known = MODELS.module_dict.keys() | MODELS.parent.module_dict.keys()
    for key, value in config.items():
        location = f"{path}.{key}".removeprefix(".")
        scope, _, name = value.rpartition(".") if isinstance(value, str) else ("", "", None)
        if key in NAMING and location != "optim_wrapper.clip_grad.type":
            if value is not None and (name not in known or scope not in ("", *SCOPES)):
                raise ConfigError(
                    f"{location} names {value!r}{suggest(str(name), known)}: data, such as JSON and what a checkpoint "
                    f"carries, may name registered parts alone; nothing of it was built."
                )
        elif key in ("_scope_", "default_scope") and value not in (None, *SCOPES):
            raise ConfigError(f"{location} is {value!r}: data uses the parts of {' and '.join(SCOPES)} alone.")
        elif FETCHING.fullmatch(str(key)) and value:
            raise ConfigError(
                f"{location} is {value!r}: reading a configuration fetches nothing and opens no other file."
            )
        elif key not in ("classes", "semantic_classes"):
            check_registered(value, location, names)
