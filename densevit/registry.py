"""densevit's branch of MMEngine's registries: what the `type=` strings of a config mean.

A class registers itself under its own name; the files named in `locations` are imported when a config first asks for
a name, so nothing has to be imported by hand. Only what a config can name is registered: models, data sets,
transforms, metrics and the Runner's parts. Layers and functions are imported like any other Python.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

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
