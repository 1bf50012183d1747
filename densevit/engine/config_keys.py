"""The top-level keys of a config, which are checked before torch is imported."""

from collections.abc import Iterable
from typing import NoReturn

from densevit.errors import ConfigError, suggest

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


def check_top_level(file: str, settings: Iterable[str], options: Iterable[str]) -> None:
    """ConfigError at the first key of a config that the Runner does not have, see `refuse`."""
    for key in settings:
        if key not in TOP_LEVEL:
            near = suggest(key, TOP_LEVEL)
            fault = f"unknown key {key!r}{near}: the Runner has no such setting and nothing in the file uses it"
            refuse(file, options, key, fault, "rename or remove it")


def refuse(file: str, options: Iterable[str], key: str, fault: str, solution: str) -> NoReturn:
    """Raise a ConfigError.

    Args:
        file: of the config.
        options: keys that came from the command line; a message about one of them names --cfg-options.
        key: the dotted key that is wrong.
        fault: what is wrong.
        solution: what to do.
    """
    given = any(option == key or option.startswith(key + ".") for option in options)
    raise ConfigError(f"{file}{' with --cfg-options' if given else ''}: {fault}; {solution}.")
