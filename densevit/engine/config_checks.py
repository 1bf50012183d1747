"""Holds a configuration against what the Runner and the constructors take, before anything is built or imported.

An unknown key, type or argument is an error that names it, its place and the nearest known one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from densevit.engine.signatures import HOMES, module_files, names, signature
from densevit.errors import ConfigError, suggest
from densevit.registry import check_registered

# keys of MMEngine's Runner: the arguments of its constructor, and what it reads from its `cfg`
RUNNER_KEYS = frozenset({
    "model", "work_dir", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg",
    "test_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler", "val_evaluator", "test_evaluator",
    "default_hooks", "custom_hooks", "data_preprocessor", "load_from", "resume", "launcher", "env_cfg",
    "log_processor", "log_level", "visualizer", "default_scope", "randomness", "experiment_name",
    "model_wrapper_cfg", "sync_bn", "find_unused_parameters", "activation_checkpointing", "efficient_conv_bn_eval",
    "compile", "custom_imports", "runner_type",
})  # fmt: skip
# keys that build_runner turns into settings of the Runner
OUR_KEYS = frozenset(("amp", "ema", "channels_last", "tensorboard"))
TOP_LEVEL = RUNNER_KEYS | OUR_KEYS

LOADER = frozenset({
    "dataset", "sampler", "batch_sampler", "batch_size", "num_workers", "collate_fn", "worker_init_fn",
    "pin_memory", "drop_last", "timeout", "prefetch_factor", "persistent_workers", "multiprocessing_context",
    "pin_memory_device", "in_order", "num_batch_per_epoch", "disable_subprocess_warning",
})  # fmt: skip
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
# arguments of one registry's classes that are built by another registry
CROSSINGS = {
    "MODELS": {"init_cfg": "WEIGHT_INITIALIZERS"},
    "DATASETS": {"pipeline": "TRANSFORMS", "transforms": "TRANSFORMS"},
    "OPTIM_WRAPPERS": {"optimizer": "OPTIMIZERS"},
    "VISUALIZERS": {"vis_backends": "VISBACKENDS"},
}
# what a builder takes off before it calls the constructor
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
    "MODELS": "model", "DATASETS": "dataset", "TRANSFORMS": "transform", "METRICS": "metric", "HOOKS": "hook",
    "LOOPS": "loop", "OPTIMIZERS": "optimizer", "PARAM_SCHEDULERS": "scheduler", "DATA_SAMPLERS": "sampler",
    "WEIGHT_INITIALIZERS": "initialization", "VISBACKENDS": "visualizer back end", "FUNCTIONS": "function",
}  # fmt: skip


class ConfigChecker:
    """Checks one configuration.

    Args:
        file: names it in the messages.
        custom_imports: modules whose sources register further types.
        options: keys that came from the command line; a message about one of them names --cfg-options.
        data: the file is YAML or JSON, which names registered parts alone: nothing is imported that it names.
    """

    def __init__(
        self, file: str, custom_imports: Iterable[str] = (), options: Iterable[str] = (), data: bool = False
    ) -> None:
        self.file, self.data = file, data
        self.options = tuple(options)
        self.extra: tuple[Path, ...] = module_files(list(custom_imports))

    def _refuse(self, path: str, fault: str, way: str = "rename or remove it") -> NoReturn:
        given = any(option == path or option.startswith(path + ".") for option in self.options)
        raise ConfigError(f"{self.file}{' with --cfg-options' if given else ''}: {fault}; {way}.")

    def check(self, settings: dict) -> None:
        """Raises ConfigError at the first key, type or argument that nothing takes."""
        for key in settings:
            if key not in TOP_LEVEL:
                self._refuse(
                    key,
                    f"unknown key {key!r}{suggest(key, TOP_LEVEL)}: the Runner has no such setting and nothing in the "
                    f"file uses it",
                )
        if self.data:
            if settings.get("custom_imports"):
                self._refuse("custom_imports", "custom_imports runs modules, and the file is data", "use a .py config")
            try:
                check_registered(settings, "", {name for registry in HOMES for name in names(registry)})
            except ConfigError as error:
                raise ConfigError(f"{self.file}: {error}") from None
        for key, value in settings.items():
            self._section(key, value)

    def _section(self, key: str, value: Any) -> None:
        if value is None:
            return
        if key in DICTIONARIES:
            self._dictionary(key, value)
        if key == "custom_hooks" and not isinstance(value, (list, tuple)):
            self._refuse(key, f"custom_hooks is a {type(value).__name__}", "give a list of hooks")
        if key.endswith("_dataloader"):
            self._loader(key, value)
        elif key == "default_hooks":
            for name, hook in value.items():
                self._built(f"{key}.{name}", hook, "HOOKS")
        elif key == "ema" and isinstance(value, dict):
            self._built(key, value, "HOOKS", "EMAHook")
        elif key in BUILT:
            registry, kind = BUILT[key]
            if key == "train_cfg" and isinstance(value, dict) and "type" not in value:
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
        if not isinstance(value, dict):
            return
        if path in SECTIONS:
            known = SECTIONS[path]
            if path == "optim_wrapper.paramwise_cfg":
                known = PARAMWISE.get(self.constructor, set(value))
            for key in value:
                if key not in known:
                    self._refuse(f"{path}.{key}", f"{path}.{key} is no setting of {path}{suggest(key, known)}")
        if path == "optim_wrapper":
            self._constructor(value.get("constructor", "DefaultOptimWrapperConstructor"))
        for key in ("mp_cfg", "clip_grad", "paramwise_cfg"):
            if f"{path}.{key}" in SECTIONS:
                self._plain(f"{path}.{key}", value.get(key))

    def _constructor(self, kind: Any) -> None:
        """What makes the groups of parameters; its class is named without a type."""
        self.constructor, registry = kind, "OPTIM_WRAPPER_CONSTRUCTORS"
        if signature(registry, kind, self.extra) is None:
            self._refuse(
                "optim_wrapper.constructor",
                f"optim_wrapper.constructor names {kind!r}, and there is no such constructor"
                f"{suggest(kind, names(registry, self.extra))}",
                "correct the name, or name the module that registers it in custom_imports",
            )

    constructor: Any = None

    def _loader(self, path: str, loader: Any) -> None:
        self._dictionary(path, loader)
        for key, value in loader.items():
            if key not in LOADER:
                self._refuse(f"{path}.{key}", f"{path}.{key} is no argument of the data loader{suggest(key, LOADER)}")
            registry = {"dataset": "DATASETS", "sampler": "DATA_SAMPLERS", "batch_sampler": "DATA_SAMPLERS"}.get(key)
            registry = {"collate_fn": "FUNCTIONS", "worker_init_fn": "FUNCTIONS"}.get(key, registry)
            if isinstance(value, (str, int, list, tuple)) and key in ("dataset", "sampler", "batch_sampler"):
                self._dictionary(f"{path}.{key}", value)
            if registry is not None:
                self._built(f"{path}.{key}", value, registry)

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
            if key not in TAKEN.get(registry, ()):
                self._built(f"{path}.{key}", item, CROSSINGS.get(registry, {}).get(key, registry))

    def _arguments(self, path: str, value: dict, registry: str, kind: Any) -> None:
        known = signature(registry, kind, self.extra)
        if known is None:
            near = suggest(kind, names(registry, self.extra))
            self._refuse(
                f"{path}.type",
                f"{path}.type names {kind!r}, and there is no such {WORDS.get(registry, 'part')}{near}",
                "correct the name, or name the module that registers it in custom_imports",
            )
        if known.open:
            return
        takes = known.arguments | TAKEN.get(registry, set()) | _taken_by_the_model(path)
        for key in value:
            if key not in takes and key not in ("type", "_scope_"):
                near = suggest(key, takes)
                self._refuse(f"{path}.{key}", f"{path}.{key} is no argument of {known.name}{near}")


def _taken_by_the_model(path: str) -> set[str]:
    """What DensePredictor takes off a head's config before it builds the head."""
    if path.startswith("model.auxiliary"):
        return {"in_index", "neck_index"}
    return {"in_index"} if path.startswith("model.head") else set()
