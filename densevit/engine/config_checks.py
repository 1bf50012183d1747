"""Checks the keys, types, arguments and values of a config before anything is built.

What the Runner or a constructor does not take is an error with its dotted key and the nearest known name.
"""

import contextlib
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from mmengine.utils import import_modules_from_strings
from torch.utils.data import DataLoader

from densevit.engine.config_keys import check_top_level, refuse
from densevit.engine.constructor_arguments import annotations, find, fits, keyword_arguments, registered
from densevit.errors import ConfigError, suggest
from densevit.registry import check_registered

# sections without a constructor: the keys that MMEngine reads
SECTIONS = {
    "auto_scale_lr": {"enable", "base_batch_size"},
    "randomness": {"seed", "diff_rank_seed", "deterministic"},
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "env_cfg.mp_cfg": {"mp_start_method", "opencv_num_threads"},
    "custom_imports": {"imports", "allow_failed_imports"},
    "optim_wrapper.clip_grad": {
        "type", "max_norm", "norm_type", "clip_value", "error_if_nonfinite", "foreach"
    },
    "optim_wrapper.paramwise_cfg": {
        "custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "dwconv_decay_mult", "flat_decay_mult",
        "dcn_offset_lr_mult", "bypass_duplicate",
    },
}  # fmt: skip
# constructor -> the keys of paramwise_cfg that it reads; another's may have any
PARAMWISE = {
    "DefaultOptimWrapperConstructor": SECTIONS["optim_wrapper.paramwise_cfg"],
    "LayerDecayOptimWrapperConstructor": SECTIONS["optim_wrapper.paramwise_cfg"] | {"decay_rate"},
}
# (registry, default type) of the sections that are built
BUILT = {
    "model": ("MODELS", None),
    "data_preprocessor": ("MODELS", None),
    "train_cfg": ("LOOPS", None),
    "val_cfg": ("LOOPS", "ValLoop"),
    "test_cfg": ("LOOPS", "TestLoop"),
    "optim_wrapper": ("OPTIM_WRAPPERS", "OptimWrapper"),
    "param_scheduler": ("PARAM_SCHEDULERS", None),
    "val_evaluator": ("METRICS", None),
    "test_evaluator": ("METRICS", None),
    "custom_hooks": ("HOOKS", None),
    "visualizer": ("VISUALIZERS", "Visualizer"),
    "log_processor": ("LOG_PROCESSORS", "LogProcessor"),
    "model_wrapper_cfg": ("MODEL_WRAPPERS", "MMDistributedDataParallel"),
}
# arguments of one registry's classes that another registry builds
CROSSINGS = {
    "MODELS": {"init_cfg": "WEIGHT_INITIALIZERS"},
    "DATASETS": {"pipeline": "TRANSFORMS", "transforms": "TRANSFORMS"},
    "OPTIM_WRAPPERS": {"optimizer": "OPTIMIZERS"},
    "VISUALIZERS": {"vis_backends": "VISBACKENDS"},
}
# keys that a builder removes before it calls the constructor
TAKEN = {
    "HOOKS": {"priority"},
    "PARAM_SCHEDULERS": {"convert_to_iter_based"},
    "OPTIM_WRAPPERS": {"constructor", "paramwise_cfg"},
    "WEIGHT_INITIALIZERS": {"override", "layer"},
}
DICTIONARIES = frozenset({
    "model", "train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "default_hooks", "env_cfg", "randomness",
    "auto_scale_lr", "custom_imports", "log_processor", "visualizer", "data_preprocessor",
})  # fmt: skip
WORDS = {
    "MODELS": "model", "MODEL_WRAPPERS": "model wrapper", "WEIGHT_INITIALIZERS": "initialization",
    "DATASETS": "dataset", "DATA_SAMPLERS": "sampler", "FUNCTIONS": "function", "TRANSFORMS": "transform",
    "LOOPS": "loop", "HOOKS": "hook", "OPTIM_WRAPPERS": "optimizer wrapper", "OPTIMIZERS": "optimizer",
    "OPTIM_WRAPPER_CONSTRUCTORS": "constructor", "PARAM_SCHEDULERS": "scheduler", "METRICS": "metric",
    "EVALUATOR": "evaluator", "VISUALIZERS": "visualizer", "VISBACKENDS": "visualizer back end",
    "LOG_PROCESSORS": "log processor", "RUNNERS": "runner",
}  # fmt: skip
"""The registries whose classes a config names, and what one of each is called in messages."""
LOADER = {
    "dataset": "DATASETS", "sampler": "DATA_SAMPLERS", "batch_sampler": "DATA_SAMPLERS",
    "collate_fn": "FUNCTIONS", "worker_init_fn": "FUNCTIONS",
}  # fmt: skip
"""The parts of a data loader, and the registry of each."""
LOADER_KEYS = {"num_batch_per_epoch", "disable_subprocess_warning"}
"""Settings of a data loader that torch's DataLoader does not have."""
RANGES = (
    (r"(\w+_)?(prob|(drop|dropout|drop_path)(_rate|_ratio)?)", 0, 1),
    (r"batch_size|max_epochs|max_iters|(val_)?interval|prefetch_factor|((in|out|feat|conv|fc)_)?channels", 1, math.inf),
    (r"(num|stacked)_\w+|seed|lr|val_begin|max_norm|clip_value", 0, math.inf),
)
"""Names of settings with their minimum and maximum; an interval may be -1, which means never."""


class ConfigChecker:
    """Checks one configuration.

    Args:
        file: names it in the messages.
        options: keys that came from the command line; a message about one of them names --cfg-options.
        data: the file is YAML or JSON, which names registered parts alone; nothing that it names is imported.
    """

    def __init__(self, file: str, options: Iterable[str] = (), data: bool = False) -> None:
        self.file, self.options, self.data = file, tuple(options), data
        self.constructor: Any = None

    def check(self, settings: dict) -> None:
        """Import the config's `custom_imports` and check everything.

        Raises:
            ConfigError: the first unknown key, type or argument, or wrong value.
        """
        check_top_level(self.file, settings, self.options)
        self._import(settings.get("custom_imports"))
        if self.data:
            try:
                check_registered(settings, "", {name for registry in WORDS for name in registered(registry)})
            except ConfigError as error:
                raise ConfigError(f"{self.file}: {error}") from None
        for key, value in settings.items():
            if value is not None:
                self._section(key, value)
        self._ranges("", settings)

    def _refuse(self, key: str, fault: str, solution: str = "rename or remove it") -> NoReturn:
        refuse(self.file, self.options, key, fault, solution)

    def _import(self, custom: Any) -> None:
        """Import the modules that register the user's own types."""
        if not custom:
            return
        if self.data:
            self._refuse("custom_imports", "custom_imports runs modules, and the file is data", "use a .py config")
        self._section("custom_imports", custom)
        try:
            import_modules_from_strings(**custom)
        except (ImportError, TypeError) as error:
            raise ConfigError(f"custom_imports of the config: {error}; correct the name, or install it.") from error

    def _section(self, key: str, value: Any) -> None:
        if key in DICTIONARIES:
            self._dictionary(key, value)
        if key == "custom_hooks" and not isinstance(value, (list, tuple)):
            self._refuse(key, f"custom_hooks is a {type(value).__name__}", "give a list of hooks")
        if key == "optim_wrapper":
            self.constructor = value.get("constructor", "DefaultOptimWrapperConstructor")
            self._find(f"{key}.constructor", "OPTIM_WRAPPER_CONSTRUCTORS", self.constructor)
        if key.endswith("_dataloader"):
            self._loader(key, value)
        elif key == "default_hooks":
            for name, hook in value.items():
                self._built(f"{key}.{name}", hook, "HOOKS")
        elif key == "ema" and isinstance(value, dict):
            self._built(key, value, "HOOKS", "EMAHook")
        elif key in BUILT:
            registry, kind = BUILT[key]
            if key == "train_cfg" and "type" not in value:
                by_epoch = value.get("by_epoch", True)
                kind = "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop"
                value = {name: item for name, item in value.items() if name != "by_epoch"}
            if key.endswith("_evaluator") and isinstance(value, dict) and "Evaluator" in str(value.get("type")):
                registry = "EVALUATOR"
            self._built(key, value, registry, kind)
        self._plain(key, value)

    def _dictionary(self, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            kind = type(value).__name__
            self._refuse(path, f"{path} is a {kind} and no dictionary", "give a dictionary of settings")

    def _plain(self, path: str, value: Any) -> None:
        """Sections whose keys are listed above."""
        known = SECTIONS.get(path)
        if path == "optim_wrapper.paramwise_cfg":
            known = PARAMWISE.get(self.constructor)
        for key, item in value.items() if isinstance(value, dict) else ():
            if known is not None and key not in known:
                self._refuse(f"{path}.{key}", f"{path}.{key} is no setting of {path}{suggest(key, known)}")
            if f"{path}.{key}" in SECTIONS:
                self._plain(f"{path}.{key}", item)

    def _loader(self, path: str, loader: Any) -> None:
        self._dictionary(path, loader)
        takes = LOADER.keys() | LOADER_KEYS | keyword_arguments(DataLoader)[0] - {"shuffle", "generator"}
        for key, value in loader.items():
            if key not in takes:
                self._refuse(f"{path}.{key}", f"{path}.{key} is no argument of the data loader{suggest(key, takes)}")
            if isinstance(value, (str, int, list, tuple)) and key in ("dataset", "sampler", "batch_sampler"):
                self._dictionary(f"{path}.{key}", value)
            if key in LOADER:
                self._built(f"{path}.{key}", value, LOADER[key])
        self._types(path, loader, DataLoader)

    def _built(self, path: str, value: Any, registry: str, kind: str | None = None) -> None:
        """Walks through what a registry builds, lists and nested parts included."""
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._built(f"{path}.{index}", item, registry, kind)
        if not isinstance(value, dict):
            return
        kind = value.get("type", kind)
        if kind is not None:
            self._arguments(path, value, registry, kind)
        for key, item in value.items():
            if key == "pipeline" and item in ([], ()):
                self._refuse(f"{path}.{key}", f"{path}.{key} is empty", "give transforms, PackSample the last of them")
            if key not in TAKEN.get(registry, ()):
                self._built(f"{path}.{key}", item, CROSSINGS.get(registry, {}).get(key, registry))

    def _find(self, path: str, registry: str, kind: Any) -> Any:
        found = find(registry, kind)
        if found is None:
            self._refuse(
                path,
                f"{path} names {kind!r}, and there is no such {WORDS[registry]}{suggest(kind, registered(registry))}",
                "correct the name, or name the module that registers it in custom_imports",
            )
        return found

    def _arguments(self, path: str, value: dict, registry: str, kind: Any) -> None:
        found = self._find(f"{path}.type", registry, kind)
        arguments, takes_any = keyword_arguments(found)
        takes = arguments | TAKEN.get(registry, set()) | _taken_by_the_model(path) | {"type", "_scope_"}
        for key in () if takes_any else value:
            if key not in takes:
                name = getattr(found, "__name__", kind)
                self._refuse(f"{path}.{key}", f"{path}.{key} is no argument of {name}{suggest(key, takes)}")
        self._types(path, value, found)

    def _types(self, path: str, value: dict, kind: Any) -> None:
        """Values against the types that a constructor states."""
        stated = annotations(kind)
        for key, item in value.items():
            if key in stated and not fits(item, stated[key]):
                wanted = getattr(stated[key], "__name__", None) or str(stated[key]).replace("typing.", "")
                name = getattr(kind, "__name__", kind)
                self._refuse(f"{path}.{key}", f"{path}.{key} is {item!r}, and {name} takes {wanted}", "correct it")

    def _ranges(self, path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                location = f"{path}{key}"
                for pattern, least, largest in RANGES if isinstance(item, (int, float, str)) else ():
                    in_range = not isinstance(item, str) and least <= item <= largest
                    if not (in_range or (key, item) == ("interval", -1)) and re.fullmatch(pattern, str(key)):
                        between = f"at least {least}" if largest == math.inf else f"between {least} and {largest}"
                        self._refuse(location, f"{location} is {item!r}, and has to be {between}", "correct it")
                self._ranges(f"{location}.", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._ranges(f"{path}{index}.", item)
        elif isinstance(value, float) and math.isnan(value):
            self._refuse(path.rstrip("."), f"{path.rstrip('.')} is not a number", "correct it")


def _taken_by_the_model(path: str) -> set[str]:
    """The keys that DensePredictor removes from a head's config before it builds the head."""
    if path.startswith("model.auxiliary"):
        return {"in_index", "neck_index"}
    return {"in_index"} if path.startswith("model.head") else set()


@contextlib.contextmanager
def building(section: str) -> Iterator[None]:
    """Turns what a constructor raises about its arguments into a ConfigError that names the section of the config."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, KeyError, ArithmeticError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{section} of the config cannot be built ({reason}); correct it.") from error
