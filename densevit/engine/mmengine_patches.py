"""The one module that touches what other packages keep to themselves.

MMEngine 0.10.7 is patched where it fails on today's Python and torch: `patch_config` patches configs alone and imports
no torch, `patch_runtime` does the rest and is called before a Runner is built. Both may be called again. Each patch has
a test that fails without it; on a maintained fork that needs a patch no longer, it changes nothing that can be seen.

`PRIVATE_NAMES` lists the private names of other packages that are used, here and by classes that override them.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from densevit.engine.dump_config import config_text
from densevit.plain_data import PlainLoader

PRIVATE_NAMES = {
    # MMEngine 0.10.7, in this module
    "_is_builtin_module": "mmengine.config.utils: does not know the standard library in virtual environments",
    "_dump": "LocalVisBackend: a full disk under the log ended a training",
    "_pre_substitute_base_vars": "Config: `{{_base_.x}}` in files that are data",
    "_substitute_base_vars": "Config: the same",
    "_merge_a_into_b": "Config: bases of files that are data, with `_delete_`",
    "_get_base_files": "Config: the bases of a file, which are read, and so not written over",
    "_get_cfg_path": "Config: the same",
    "_SlicedDataset": "mmengine.runner: num_batch_per_epoch of a loader that our Runner builds",
    # MMEngine 0.10.7, members of base classes that ours use or override: it has no public way to them
    "_log_env": "Runner: one line in place of a page",
    "_init_model_weights": "Runner: not where a checkpoint gives every weight",
    "_train_loop": "Runner: whether the run trains, without building the loop",
    "_train_dataloader": "Runner: a dataset that is built already goes to its loader",
    "_test_dataloader": "Runner: the same",
    "_epoch": "train loops: where a run is, set on resume",
    "_iter": "train loops: the same",
    "_max_epochs": "train loops: their constructor would start the workers",
    "_max_iters": "train loops: the same",
    "_decide_current_val_interval": "train loops: dynamic_intervals",
    "_accumulative_counts": "OptimWrapper: gradients under way are saved",
    "_default_greater_keys": "CheckpointHook, EarlyStoppingHook: metrics of dense prediction",
    "_default_less_keys": "CheckpointHook, EarlyStoppingHook: the same",
    "_save_checkpoint_with_step": "CheckpointHook: older files are removed after the new one stands",
    "_save_best_checkpoint": "CheckpointHook: the same",
    "_has_loaded": "Runner: load_checkpoint and resume are ours",
    "_metainfo": "BaseDataset: class names known only once the annotations are read",
    "_fully_initialized": "BaseDataset: whether the annotations are read",
    "_get_unserialized_subset": "BaseDataset: subsets of datasets that keep no serialized copy",
    # torch 2.10
    "_forward_hooks": "Module: a layer with hooks is called as a module",
    "_forward_pre_hooks": "Module: the same",
    "_disable_current_modes": "torch.utils._python_dispatch: what is cached is made outside of a trace or fake tensors",
    "_get_current_dispatch_mode_stack": "torch.utils._python_dispatch: the same",
    "_C": "torch: PyTorchFileReader, to read the list of a file's tensors before their content",
    # Python
    "_Unpickler": "pickle: the one in Python, whose opcodes can be refused",
}


def _replace_everywhere(original: Callable, patched: Callable) -> None:
    """Replace a function in all modules of MMEngine that have imported it by name."""
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "mmengine" and m is not None]:
        for name, value in list(vars(module).items()):
            if value is original:
                setattr(module, name, patched)


@functools.cache
def patch_config() -> None:
    """Config files: imports of the standard library, fast and correct dumps, `pkg_resources`. Imports no torch."""
    import mmengine.config.config as config
    import mmengine.config.utils as config_utils
    import mmengine.fileio.handlers.yaml_handler as yaml_handler
    from mmengine.utils import package_utils

    # YAML: MMEngine's loader runs what a tag names
    yaml_handler.Loader = PlainLoader

    # A plain `import os` in a config: MMEngine looks for the library under /usr/lib/python and the interpreter's own
    # folder, and misses it in virtual environments and frozen modules; the config is then taken for another kind.
    looks_builtin = config_utils._is_builtin_module

    def is_builtin_module(name: str) -> bool:
        return name.split(".")[0] in sys.stdlib_module_names or looks_builtin(name)

    _replace_everywhere(looks_builtin, is_builtin_module)

    # Dumping: yapf takes seconds for a recipe, on every start, and MMEngine's own text is no valid Python for keys
    # such as 'a.b', for inf and for nan.
    config.Config.pretty_text = property(lambda self: config_text(self.to_dict()))

    # pkg_resources left setuptools with version 82
    _replace_everywhere(package_utils.is_installed, is_installed)
    _replace_everywhere(package_utils.get_installed_path, get_installed_path)
    _replace_everywhere(package_utils.package2module, package2module)


def base_files(file: Path) -> list[Path]:
    """The files that the `_base_` of a Python config names."""
    from mmengine.config import Config

    return [Path(Config._get_cfg_path(base, str(file))[0]) for base in Config._get_base_files(str(file))]


def mark_base_variables(text: str) -> tuple[str, dict[str, str]]:
    """A config's text with a unique word for each `{{_base_.x}}`; and what the words stand for."""
    from mmengine.config import Config

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config"
        file.write_text(text, encoding="utf-8")
        references = Config._pre_substitute_base_vars(str(file), str(file))
        return file.read_text(encoding="utf-8"), references


def merge_base(settings: dict, references: dict[str, str], base: dict) -> dict:
    """The settings of a config over those of its bases, which the words of `mark_base_variables` stand for."""
    from mmengine.config import Config

    settings = Config._substitute_base_vars(settings, references, Config(base).to_dict())
    settings.pop("_base_", None)
    return Config._merge_a_into_b(settings, base)


def first_of(dataset: Any, length: int) -> Any:
    """The first images of a dataset, which keeps all its attributes."""
    from mmengine.runner.runner import _SlicedDataset

    return _SlicedDataset(dataset, length)


@contextlib.contextmanager
def without_cuda_devices() -> Iterator[None]:
    """MMEngine's launchers call torch.cuda.set_device, which fails on a machine without GPUs: let it do nothing."""
    import torch

    set_device = torch.cuda.set_device
    torch.cuda.set_device = lambda *_: None
    try:
        yield
    finally:
        torch.cuda.set_device = set_device


def package2module(package: str) -> str:
    """The import name of an installed distribution: `onedl-mmcv` -> `mmcv`."""
    names = (importlib.metadata.distribution(package).read_text("top_level.txt") or "").split()
    if not names:
        raise ValueError(f"cannot infer the module name of {package}")
    return names[0]


def is_installed(package: str) -> bool:
    """Whether a distribution or a module of this name can be imported."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def get_installed_path(package: str) -> str:
    """The folder of an installed package, named by its distribution or by its module."""
    module = package
    if importlib.util.find_spec(package) is None:
        module = package2module(package)  # raises PackageNotFoundError, as pkg_resources raised DistributionNotFound
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is a namespace package, which has no single path")
    return os.path.dirname(spec.origin)


@functools.cache
def patch_runtime() -> None:
    """Everything that a Runner needs; imports torch and mmengine.runner."""
    patch_config()
    _patch_find_loader()
    with suppress_warnings():
        _patch_reading()
        _patch_log_writing()


def _patch_find_loader() -> None:
    """`pkgutil.find_loader`, gone with Python 3.14, is called at each module of a model to ask for mmcv's operators."""
    import mmengine.utils.dl_utils.misc as misc

    misc.pkgutil = types.SimpleNamespace(find_loader=functools.cache(importlib.util.find_spec))


class _SafeTorch:
    """torch with a safe `load`, for mmengine.runner.checkpoint."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    @staticmethod
    def load(file: Any, map_location: Any = None, **_: Any) -> Any:
        from densevit.checkpoints.reading import load_safely

        return load_safely(file, map_location or "cpu")


def _patch_reading() -> None:
    """MMEngine's checkpoint loader reads every URL scheme safely (and so also its own files on torch >= 2.6)."""
    import mmengine.runner.checkpoint as checkpoint

    from densevit.checkpoints.reading import read_file

    def load_from_local(filename: str, map_location: Any = None) -> dict:
        return read_file(filename)

    def load_from_http(filename: str, map_location: Any = None, **_: Any) -> dict:
        return read_file(_downloaded(filename))

    checkpoint.torch = _SafeTorch()  # pavi, petrel and s3 read a file that they fetched with torch.load
    checkpoint.load_from_http = load_from_http  # torchvision://, open-mmlab:// and mmcls:// end in one of these two
    checkpoint.load_from_local = load_from_local
    checkpoint.CheckpointLoader.register_scheme("", load_from_local, force=True)
    checkpoint.CheckpointLoader.register_scheme(("http://", "https://"), load_from_http, force=True)


def _patch_log_writing() -> None:
    """A full disk loses lines of the JSON log; it does not end the training."""
    from mmengine.logging import print_log
    from mmengine.visualization import LocalVisBackend

    dump = LocalVisBackend._dump

    def dump_if_possible(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            dump(self, *args, **kwargs)
        except OSError as error:
            print_log(f"a line of the log could not be written: {error}", "current", logging.ERROR)

    LocalVisBackend._dump = dump_if_possible


def _downloaded(url: str) -> str:
    """Fetch `url` once, by the first process of each machine; returns the file's path."""
    import torch.distributed

    from densevit.checkpoints.pretrained import resolve

    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    path = resolve(dict(checkpoint=url)) if first or not together else None
    if together:
        torch.distributed.barrier()
    return str(path or resolve(dict(checkpoint=url)))


NOISE = (
    # MMEngine's calls of deprecated functions, which a user cannot change
    (DeprecationWarning, r".*", r"mmengine\..*"),
    (FutureWarning, r".*", r"mmengine\..*"),
    (DeprecationWarning, r"'maxsplit' is passed as positional argument", r".*"),
    (FutureWarning, r"`torch\.cuda\.amp\.", r".*"),
    # several processes read data beside torch's threads: the workers use no torch threads
    (DeprecationWarning, r"This process .* is multi-threaded, use of fork\(\)", r".*"),
    # gradient accumulation: the schedulers count iterations, the optimizer steps at each n-th
    (UserWarning, r"Setting (OMP|MKL)_NUM_THREADS environment variable", r"mmengine\..*"),
    (UserWarning, r"Detected call of `(lr_)?scheduler\.step\(\)` before", r"mmengine\..*"),
)

QUIET_LINES = (
    "paramwise_options",  # one line per parameter
    "Hooks will be executed in the following order",  # fifty lines at every start
    "Distributed training is not used, all SyncBatchNorm",  # no model of ours has them
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Because batch augmentations are enabled",
    "Resumed iteration number is not divisible by",  # the gradients under way are in our checkpoints
    "Exp name: ",
)


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Runs a block without the warnings in NOISE."""
    with warnings.catch_warnings():
        for category, message, module in NOISE:
            warnings.filterwarnings("ignore", message=message, category=category, module=module)
        yield


class _QuietLines(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(QUIET_LINES)


def set_log_level(logger: logging.Logger) -> None:
    """Keep the lines in QUIET_LINES off the terminal (the log file has them), and ignore errors of the log file on a
    full disk."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = lambda record: None
        else:
            handler.addFilter(_QuietLines())
