"""Builds a Runner from a config."""

import importlib.util
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevit.errors import ConfigError
from densevit.outputs import inputs_of, named_paths, require_folder
from densevit.plain_data import entries

if TYPE_CHECKING:
    from mmengine.config import Config

    from densevit.engine.runner import Runner

_runs = itertools.count()


def build_runner(cfg: "Config", resume: bool = False, training: bool = True, pretrained: str | None = None) -> "Runner":
    """The Runner of a config.

    The dataset is built first: its class names go to the model, which passes their number to the heads.

    Args:
        cfg: from `read_config`; it is changed.
        resume: from the latest checkpoint in `cfg.work_dir`, or start where there is none.
        training: False builds the test loop alone.
        pretrained: a file of weights for the backbone instead of the config's, or 'none' for random weights. The
            config's are downloaded before anything is built, unless a checkpoint gives the weights.

    Raises:
        ConfigError: what is missing or does not fit, such as a number of classes that is not the dataset's.
        CheckpointError: no checkpoint can be resumed from.
        DataError: files of the dataset are missing or wrong.
    """
    from densevit.engine.mmengine_patches import patch_runtime, suppress_warnings

    with suppress_warnings():
        patch_runtime()
        return _build(cfg, resume, training, pretrained)


def _build(cfg: "Config", resume: bool, training: bool, pretrained: str | None) -> "Runner":
    from densevit.engine.checkpointing import find_latest_checkpoint
    from densevit.engine.classes import compare_classes, pass_classes
    from densevit.engine.config_checks import ConfigChecker, building
    from densevit.engine.runner import Runner

    _fill_in(cfg, training)
    ConfigChecker(str(cfg.filename or "the config")).check(cfg.to_dict())
    _check_work_dir(cfg, resume, training)
    folder = _checkpoint_folder(cfg)
    found = find_latest_checkpoint(folder) if resume else None
    if resume and found is None:
        print(f"no checkpoint in {folder}: the training begins at the start", flush=True)
    cfg.resume = found is not None
    if found is not None:
        cfg.load_from = str(found[0])
        seed = found[1]["meta"].get("seed")
        stated = (cfg.get("randomness") or {}).get("seed")
        if seed is not None:
            cfg.setdefault("randomness", {})["seed"] = seed
    section = "train_dataloader" if training else "test_dataloader"
    dataset = _dataset(cfg, section)
    if found is not None:
        described = found[1]["meta"].get("dataset_meta") or {}
        compare_classes(str(found[0]), described, getattr(dataset, "metainfo", None) or {}, "resume it with")
    pass_classes(cfg, getattr(dataset, "metainfo", None) or {})
    weights_follow = found is not None or not training or cfg.get("load_from")
    _resolve_pretrained(cfg, "none" if weights_follow else pretrained)
    with building("the model, a hook or another part"):
        runner = Runner.from_cfg(cfg)
    runner.resume_checkpoint = found
    if found is not None and seed is not None and stated not in (None, seed):
        runner.logger.warning(f"seed {stated} is not used: the resumed run keeps its seed {seed}")
    # built once: the loader takes it as it is
    if training:
        runner.train_dataset, runner._train_dataloader = dataset, dict(runner._train_dataloader, dataset=dataset)
    else:
        runner.test_dataset, runner._test_dataloader = dataset, dict(runner._test_dataloader, dataset=dataset)
    return runner


def _fill_in(cfg: "Config", training: bool) -> None:
    """Defaults, and the switches `ema`, `amp` and `tensorboard`, each of which sets several keys."""
    if not cfg.get("model"):
        raise ConfigError(f"{cfg.filename}: there is no model; state one.")
    stem = Path(cfg.filename).stem if cfg.filename else "run"
    cfg.work_dir = cfg.get("work_dir") or str(Path("work_dirs") / stem)
    cfg.default_scope = cfg.get("default_scope") or "densevit"
    run = next(_runs)
    # loggers and message hubs are found by this name: two runs in one process, within one second, need two
    cfg.experiment_name = cfg.get("experiment_name") or (f"{stem}-{run}" if run else stem)
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if training or hook.get("type") != "EMAHook"]
    if training and cfg.get("ema") and not any(hook.get("type") == "EMAHook" for hook in hooks):
        hooks.append(dict(dict(cfg.ema) if isinstance(cfg.ema, dict) else {}, type="EMAHook"))
    cfg.custom_hooks = hooks
    if cfg.get("tensorboard"):
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("tensorboard=True: it is not installed; pip install 'densevit[tensorboard]'.")
        visualizer = cfg.get("visualizer") or dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
        back_ends = list(visualizer.get("vis_backends") or [])
        if not any(back_end["type"] == "TensorboardVisBackend" for back_end in back_ends):
            back_ends.append(dict(type="TensorboardVisBackend"))
        cfg.visualizer = dict(visualizer, vis_backends=back_ends)
    if training:
        _train_settings(cfg)
        return
    training_only = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
    for key in (*training_only, "val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    # there is a progress bar in place of a line per 50 batches
    hooks = dict(cfg.get("default_hooks") or {})
    cfg.default_hooks = dict(hooks, logger=dict(hooks.get("logger") or dict(type="LoggerHook"), interval=10**9))


def _check_work_dir(cfg: "Config", resume: bool, training: bool) -> None:
    """ConfigError where it cannot be written, or holds weights that a new training reads and would replace."""
    folder = require_folder(cfg.work_dir, "--work-dir", inputs_of(cfg))
    for path in named_paths(cfg) if training and not resume else ():
        if Path(path).suffix == ".pth" and Path(path).resolve().parent == folder.resolve():
            raise ConfigError(
                f"--work-dir {folder} holds {Path(path).name}, which the training begins from and would replace: "
                "choose another folder."
            )


def _train_settings(cfg: "Config") -> None:
    for key in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if not cfg.get(key):
            raise ConfigError(f"{cfg.filename}: there is no {key}, which a training needs; state it.")
    bf16 = "bfloat16" in str(cfg.optim_wrapper.get("dtype"))
    if cfg.get("amp") or (cfg.optim_wrapper.get("type") == "AmpOptimWrapper" and bf16):
        rest = {k: v for k, v in cfg.optim_wrapper.items() if k not in ("type", "dtype", "loss_scale", "use_fsdp")}
        cfg.optim_wrapper = dict(rest, type="Bf16OptimWrapper")
    _set_checkpoint_interval(cfg)


def _set_checkpoint_interval(cfg: "Config") -> None:
    """The default interval of checkpoints: an epoch, or that of validation where the loop counts iterations."""
    saving, loop = (cfg.get("default_hooks") or {}).get("checkpoint"), cfg.train_cfg
    if not saving:
        return
    by_epoch = loop.get("by_epoch", True) and loop.get("type") != "IterBasedTrainLoop"
    if saving.setdefault("by_epoch", by_epoch) and not by_epoch:
        raise ConfigError(
            f"{cfg.filename}: default_hooks.checkpoint.by_epoch=True saves nothing in a training that counts steps; "
            f"leave it out."
        )
    saving.setdefault("interval", 1 if by_epoch else loop.get("val_interval", 1000))


def _checkpoint_folder(cfg: "Config") -> Path:
    """The folder of the checkpoints: the work dir, or the folder of the same name that MMEngine makes in `out_dir`."""
    out_dir = ((cfg.get("default_hooks") or {}).get("checkpoint") or {}).get("out_dir")
    work_dir = Path(cfg.work_dir)
    return Path(out_dir) / work_dir.name if out_dir and str(out_dir) != str(cfg.work_dir) else work_dir


def _resolve_pretrained(cfg: "Config", choice: str | None) -> None:
    """Replace, remove or download the weights that the config's `init_cfg` entries name."""
    from densevit.checkpoints.pretrained import resolve

    if choice not in (None, "none"):
        if not isinstance(cfg.model.get("backbone"), dict):
            raise ConfigError(f"--pretrained {choice}: the model has no backbone that could take weights.")
        backbone = cfg.model["backbone"]
        backbone.get("vit", backbone)["init_cfg"] = dict(type="Pretrained", checkpoint=choice)  # an adapter's ViT

    for _, part, key in entries({"model": cfg.model}):
        init = part[key]
        if key == "init_cfg" and isinstance(init, dict) and init.get("type") in ("Pretrained", "densevit.Pretrained"):
            if choice == "none":
                part[key] = None
            else:
                resolve(init)


def _dataset(cfg: "Config", section: str) -> Any:
    from mmengine.registry import DATASETS, DefaultScope

    from densevit.engine.config_checks import building

    loader = cfg.get(section)
    if not loader:
        raise ConfigError(f"{cfg.filename}: there is no {section}; state it.")
    if not isinstance(loader.get("dataset"), dict):
        raise ConfigError(f"{cfg.filename}: {section}.dataset is missing; state one.")
    with DefaultScope.overwrite_default_scope(cfg.default_scope), building(f"{section}.dataset"):
        dataset = DATASETS.build(loader["dataset"])
        if hasattr(dataset, "full_init"):
            dataset.full_init()
    return dataset
