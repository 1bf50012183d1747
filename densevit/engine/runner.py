"""MMEngine's Runner with exact resume, atomic and safely read checkpoints, and several processes without GPUs."""

import atexit
import contextlib
import functools
import platform
import signal
import time
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to
from torch import nn
from torch.utils.data import DataLoader

import densevit
from densevit.checkpoints.reading import read_file
from densevit.engine import loops, mmengine_patches, optimizer_state, resuming, rng_state, work_dir_lock
from densevit.engine.checkpointing import CheckpointHook, CheckpointSaveError, from_plain, plain, save_atomically
from densevit.engine.classes import sized_by_classes
from densevit.engine.config import config_files
from densevit.engine.config_checks import building
from densevit.engine.data_loader import build_dataloader
from densevit.engine.distributed import run_in_first
from densevit.engine.interruption import Interruption
from densevit.engine.optim_wrapper import merge_groups, prefer_fused
from densevit.errors import ConfigError, TrainingError
from densevit.outputs import files_of
from densevit.registry import RUNNERS


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """Built by `build_runner`; the arguments are MMEngine's."""

    resumed = False
    saved_rng_state: dict | None = None  # the training's RNG state while a validation runs
    resume_checkpoint: tuple[Path, dict] | None = None  # the checkpoint to resume from, and its content
    train_dataset: Any = None  # built before the model
    test_dataset: Any = None
    interruption = Interruption()
    _started = False
    _pending: dict | None = None  # RNG state and gradients of the checkpoint, until the first iteration

    # -- the start of a run ------------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict) -> None:
        """As MMEngine's; several processes on a machine without GPUs communicate through gloo."""
        if self.distributed and not torch.cuda.is_available():
            env_cfg = dict(env_cfg, dist_cfg=dict(env_cfg.get("dist_cfg") or {}, backend="gloo"))
            with mmengine_patches.without_cuda_devices():
                super().setup_env(env_cfg)
            # its threads, where they outlive the interpreter, at times abort a process that has finished
            atexit.register(lambda: torch.distributed.is_initialized() and torch.distributed.destroy_process_group())
        else:
            super().setup_env(env_cfg)
        if self._train_loop is not None:  # before anything is written
            run_in_first(ConfigError, work_dir_lock.acquire, self.work_dir)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        mmengine_patches.set_log_level(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """One line in place of MMEngine's page, for which it runs compilers to get their versions."""
        self.logger.info(
            f"densevit {densevit.__version__}, mmengine {mmengine.__version__}, torch {torch.__version__}, "
            f"Python {platform.python_version()}; {self.world_size} x {get_device()}, seed {self.seed}; "
            f"work_dir {self.work_dir}"
        )

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.cfg.get("channels_last"):
            model = model.to(memory_format=torch.channels_last)
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get("find_unused_parameters", False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    def dump_config(self) -> None:
        """Write the config into the work dir, in a training alone, and never over the file that it was read from."""
        target = Path(self.work_dir) / Path(self.cfg.filename or "").name
        if self._train_loop is not None and target not in files_of(*config_files(self.cfg)):
            super().dump_config()

    @building("optim_wrapper")
    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        built = super().build_optim_wrapper(optim_wrapper)
        optimizer = getattr(built, "optimizer", None)
        if optimizer is not None and not optimizer.state:
            merge_groups(optimizer)
            prefer_fused(optimizer)
        return built

    @building("param_scheduler")
    def build_param_scheduler(self, scheduler: Any) -> Any:
        return super().build_param_scheduler(scheduler)

    @building("train_cfg or train_dataloader")
    def build_train_loop(self, loop: Any) -> Any:
        return super().build_train_loop(_with_type(loop, "EpochBasedTrainLoop", "IterBasedTrainLoop"))

    @building("val_cfg, val_dataloader or val_evaluator")
    def build_val_loop(self, loop: Any) -> Any:
        return super().build_val_loop(_with_type(loop, "ValLoop"))

    @building("test_cfg, test_dataloader or test_evaluator")
    def build_test_loop(self, loop: Any) -> Any:
        return super().build_test_loop(_with_type(loop, "TestLoop"))

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        return build_dataloader(dataloader, seed)

    def _init_model_weights(self) -> None:
        """As MMEngine's, unless a checkpoint will give every weight."""
        if self.resume_checkpoint is None:
            with building("an init_cfg"):
                super()._init_model_weights()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        with building("a hook") if fn_name == "before_run" else contextlib.nullcontext():
            super().call_hook(fn_name, **kwargs)

    def train(self) -> nn.Module:
        self.interruption = Interruption()
        try:
            with mmengine_patches.suppress_warnings(), self.interruption.watched():
                return super().train()
        finally:
            if is_main_process():
                work_dir_lock.release(self.work_dir)

    def test(self) -> dict:
        with mmengine_patches.suppress_warnings():
            return super().test()

    # -- checkpoints -------------------------------------------------------------------------------------------------

    @property
    def bare_model(self) -> nn.Module:
        """The model without its wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save everything that an exact resume needs. Called by all processes.

        Raises:
            CheckpointSaveError: in all processes, the file could not be written; nothing else has changed.
            TrainingError: in all processes, weights or optimizer state are not finite; nothing is written.
        """
        pending = self._pending or {}  # a validation may come before the first iteration after a resume
        random_streams = pending.get("random_streams") or all_gather_object(
            self.saved_rng_state or rng_state.get_rng_state()
        )
        gradients = (pending.get("gradients") or self._gradients_under_way()) if save_optimizer else None
        epoch, iteration = (self.epoch + 1, self.iter) if by_epoch else (self.epoch, self.iter + 1)

        def save() -> None:
            content = self._content(
                dict(epoch=epoch, iter=iteration) | (meta or {}), save_optimizer, save_param_scheduler
            )
            content["random_streams"] = random_streams
            content["gradients"] = gradients
            self.call_hook("before_save_checkpoint", checkpoint=content)
            broken = resuming.non_finite(content)
            if broken:
                raise TrainingError(broken)
            save_atomically(content, Path(out_dir) / filename)

        try:
            run_in_first((CheckpointSaveError, TrainingError), save)
        except TrainingError as error:
            self.stop_if_not_finite(str(error))

    def stop_if_not_finite(self, broken: str | None = None) -> None:
        """End the training where its weights are no longer finite. Called by all processes.

        Args:
            broken: the name of the tensor that is not finite; by default the weights are searched.

        Raises:
            TrainingError: with the iteration, the images of its batch and those of the one before.
        """
        if broken is None:
            state = {"state_dict": self.bare_model.state_dict()}
            broken = next((name for name in all_gather_object(resuming.non_finite(state)) if name), None)
        if broken is None:
            return
        seen = [
            f"iteration {number} on {_few([name for part in all_gather_object(names) for name in part])}"
            for number, names in self.train_loop.recent
        ]
        raise TrainingError(
            f"{broken} is not finite after {', and before it '.join(seen) or 'resuming'}: nothing of it was "
            f"saved; look at these images, lower the learning rate or clip the gradients, and --resume."
        )

    def stop_if_interrupted(self, shared: dict | None = None) -> None:
        """After a signal in any process, save and end. Called by all of them between two iterations.

        Args:
            shared: see `Interruption.agreed`.

        Raises:
            SystemExit: with 128 + the signal's number, as a shell has it.
        """
        number = self.interruption.agreed(shared)
        if not number:
            return
        hook = next((hook for hook in self.hooks if isinstance(hook, CheckpointHook)), None)
        saved = hook.save_now(self) if hook else None
        where = f"{saved} holds it, and --resume goes on from there" if saved else "nothing of it is saved"
        self.logger.warning(f"{signal.Signals(number).name}: the training ends after iteration {self.iter}; {where}")
        raise SystemExit(128 + number)

    def _content(self, meta: dict, save_optimizer: bool, save_param_scheduler: bool) -> dict:
        """MMEngine's layout, in tensors and plain Python alone, so that any torch.load(weights_only=True) reads it."""
        loader = self.train_dataloader
        meta.update(
            cfg=self.cfg.pretty_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S"),
            mmengine_version=mmengine.__version__,
            densevit_version=densevit.__version__,
            dataset_meta=dict(getattr(loader.dataset, "metainfo", None) or {}),
            global_batch=(loader.batch_sampler.batch_size or 1) * self.world_size,
            epoch_length=len(loader),
            world_size=self.world_size,
        )
        content = {
            "meta": plain(meta),
            "state_dict": weights_to_cpu(self.bare_model.state_dict()),
            "message_hub": plain(self.message_hub.state_dict()),
        }
        if save_optimizer:
            content["optimizer"] = _on_cpu(self.optim_wrapper.state_dict())
            content["optimizer_layout"] = optimizer_state.optimizer_layout(
                self.optim_wrapper.optimizer, self.bare_model
            )
        if save_param_scheduler and self.param_schedulers is not None:
            content["param_schedulers"] = apply_to(
                self.param_schedulers, lambda x: hasattr(x, "state_dict"), lambda scheduler: scheduler.state_dict()
            )
        return content

    def _gradients_under_way(self) -> dict | None:
        """Accumulated gradients that have not been used yet (their mean over the processes)."""
        wrapper = self.optim_wrapper
        if getattr(wrapper, "_accumulative_counts", 1) == 1 or wrapper.should_update():
            return None
        found = {n: p.grad.detach().clone() for n, p in self.bare_model.named_parameters() if p.grad is not None}
        for gradient in found.values():
            all_reduce(gradient, op="mean")
        return _on_cpu(found)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load the weights of a file in any supported format, see densevit.converters.load_weights. The classifier of
        a file with another number of classes is not loaded."""
        from densevit.converters import load_weights

        new = functools.partial(sized_by_classes, self.cfg.model, self.bare_model)
        report = load_weights(self.bare_model, filename, new_where_odd=new)
        self.logger.info(str(report))
        if report.newly_initialized:
            self.logger.info(f"new, as {filename} has nothing that fits: {', '.join(report.newly_initialized)}")
        checkpoint = {"state_dict": self.bare_model.state_dict()}
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self._has_loaded = True
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume exactly from a checkpoint of densevit or MMEngine.

        Raises:
            CheckpointError: the file cannot be read, or is damaged, of another model or of another optimizer.
        """
        # everything is compared before anything is changed
        checkpoint = self.resume_checkpoint[1] if self.resume_checkpoint else read_file(filename, check_sums=True)
        if not self.resume_checkpoint:
            resuming.require_resumable(filename, checkpoint)
        resuming.require_same_model(filename, checkpoint, self.bare_model, self.hooks)
        by_epoch = isinstance(self.train_loop, loops.EpochBasedTrainLoop)
        *position, moved = resuming.position(filename, checkpoint["meta"], self.train_dataloader, by_epoch)
        optimizer, changes = optimizer_state.match_optimizer(filename, self.optim_wrapper, self.bare_model, checkpoint)
        schedulers, saved = (resuming.flat(x) for x in (self.param_schedulers, checkpoint.get("param_schedulers")))
        changes += optimizer_state.schedule_changes(filename, schedulers, saved, bool(changes))

        averages = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if checkpoint.get("ema_state_dict") is not None and not averages:
            # `ema_state_dict` has the trained weights, `state_dict` their averages
            self.logger.warning(f"{filename} holds averaged weights (ema), which this run does not keep: left out")
            raw = {k[7:]: v for k, v in checkpoint["ema_state_dict"].items() if k.startswith("module.")}
            checkpoint["state_dict"].update(raw)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self.bare_model.load_state_dict(checkpoint["state_dict"], strict=True)
        self.train_loop._epoch, self.train_loop._iter = position
        self.message_hub.load_state_dict(from_plain(checkpoint["message_hub"]))
        if changes:  # the settings of this run, and the schedules from the start of it
            optimizer.pop("base_param_settings", None)
            self.optim_wrapper.load_state_dict(optimizer)
            optimizer_state.fast_forward(schedulers, *position, len(self.train_dataloader))
        else:
            groups = zip(checkpoint["optimizer"]["param_groups"], optimizer["param_groups"], strict=True)
            optimizer["param_groups"] = [dict(ours, **dict(theirs, params=ours["params"])) for theirs, ours in groups]
            self.optim_wrapper.load_state_dict(optimizer)
            for scheduler, state in zip(schedulers, saved, strict=True):
                scheduler.load_state_dict(state)
        self._pending = {key: checkpoint.get(key) for key in ("random_streams", "gradients")}
        self._has_loaded = self.resumed = True
        self.logger.info(f"resumed from {filename}: epoch {self.epoch}, iteration {self.iter}")
        for warning in [*moved, *(f"the edited config is followed: {change}" for change in changes)]:
            self.logger.warning(warning)

    def restore_pending(self) -> None:
        """Called right before each iteration: the first one of a run sets the RNG state, and after a resume the
        accumulated gradients."""
        if self._pending is None:
            if not self.resumed and not self._started:
                rng_state.seed_per_rank(self.seed, self.rank)
            self._started = True
            return
        pending, self._pending, self._started = self._pending, None, True
        saved = pending["random_streams"] or []
        if self.rank < len(saved):
            rng_state.set_rng_state(saved[self.rank])
        else:
            self.logger.warning("the checkpoint holds no RNG state of this process: the run goes on with new ones")
            rng_state.seed_per_rank(self.seed, self.rank)
        parameters = dict(self.bare_model.named_parameters())
        for name, gradient in (pending["gradients"] or {}).items():
            parameters[name].grad = torch.empty_like(parameters[name]).copy_(gradient)


def _with_type(loop: Any, by_epoch: str, by_iter: str = "") -> Any:
    """A loop's config with the type that MMEngine would choose, so that densevit's registry is asked for it."""
    if not isinstance(loop, dict) or "type" in loop:
        return loop
    rest = {key: value for key, value in loop.items() if key != "by_epoch"}
    return dict(rest, type=by_epoch if loop.get("by_epoch", True) else by_iter)


def _on_cpu(state: Any) -> Any:
    return apply_to(state, lambda x: hasattr(x, "cpu"), lambda x: x.cpu())


def _few(images: list[str]) -> str:
    return (", ".join(images[:16]) + (f" and {len(images) - 16} more" if len(images) > 16 else "")) or "unnamed images"
