"""MMEngine's Runner with exact resume, checkpoints that are safe to write and to read, and processes without GPUs."""

import platform
import time
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to
from torch import nn
from torch.utils.data import DataLoader

import densevit
from densevit.checkpoints.reading import read_file
from densevit.engine import loops, mending, streams
from densevit.engine.checkpointing import SaveFailed, from_plain, plain, save_atomically
from densevit.engine.config import config_files
from densevit.engine.data_loader import build_dataloader
from densevit.engine.distributed import from_first, gathered, without_cuda_devices
from densevit.engine.optim_wrapper import merge_groups, prefer_fused
from densevit.errors import CheckpointError
from densevit.outputs import files_of
from densevit.registry import RUNNERS


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """Built by `build_runner`; the arguments are MMEngine's."""

    resumed = False
    paused_streams: dict | None = None  # the training's random streams while a validation runs
    found: tuple[Path, dict] | None = None  # the checkpoint to resume from, read already
    train_dataset: Any = None  # built before the model
    test_dataset: Any = None
    _waiting: dict | None = None  # random streams and gradients of the checkpoint, until the first step

    # -- the start of a run ------------------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict) -> None:
        """As MMEngine's; several processes on a machine without GPUs talk through gloo."""
        if self.distributed and not torch.cuda.is_available():
            env_cfg = dict(env_cfg, dist_cfg=dict(env_cfg.get("dist_cfg") or {}, backend="gloo"))
            with without_cuda_devices():
                super().setup_env(env_cfg)
        else:
            super().setup_env(env_cfg)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        mending.quieten(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """One line in place of MMEngine's page, which runs compilers to ask for their versions."""
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
        """Write the config beside the checkpoints; a test leaves the training's alone, and it is never written over
        the file that it was read from."""
        target = Path(self.work_dir) / Path(self.cfg.filename or "").name
        if self._train_loop is not None and target not in files_of(*config_files(self.cfg)):
            super().dump_config()

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        built = super().build_optim_wrapper(optim_wrapper)
        optimizer = getattr(built, "optimizer", None)
        if optimizer is not None and not optimizer.state:
            merge_groups(optimizer)
            prefer_fused(optimizer)
        return built

    def build_train_loop(self, loop: Any) -> Any:
        return super().build_train_loop(_with_type(loop, "EpochBasedTrainLoop", "IterBasedTrainLoop"))

    def build_val_loop(self, loop: Any) -> Any:
        return super().build_val_loop(_with_type(loop, "ValLoop"))

    def build_test_loop(self, loop: Any) -> Any:
        return super().build_test_loop(_with_type(loop, "TestLoop"))

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        return build_dataloader(dataloader, seed)

    def _init_model_weights(self) -> None:
        """Not where a checkpoint is about to give every weight."""
        if self.found is None:
            super()._init_model_weights()

    def train(self) -> nn.Module:
        with mending.silence():
            return super().train()

    def test(self) -> dict:
        with mending.silence():
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
        """Save everything that the run needs to go on as if it had never stopped. Called by all processes.

        Raises:
            SaveFailed: in all processes, where the file could not be written; nothing else has changed.
        """
        random_streams = gathered(self.paused_streams or streams.capture())
        gradients = self._gradients_under_way() if save_optimizer else None
        failure = None
        if is_main_process():
            try:
                meta = dict(meta or {})
                meta.setdefault("epoch", self.epoch + 1 if by_epoch else self.epoch)
                meta.setdefault("iter", self.iter if by_epoch else self.iter + 1)
                content = self._content(meta, save_optimizer, save_param_scheduler)
                content["random_streams"] = random_streams
                content["gradients"] = gradients
                self.call_hook("before_save_checkpoint", checkpoint=content)
                save_atomically(content, Path(out_dir) / filename)
            except SaveFailed as error:
                failure = str(error)
        failure = from_first(failure)
        if failure:
            raise SaveFailed(failure)

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
        if save_param_scheduler and self.param_schedulers is not None:
            content["param_schedulers"] = (
                {name: [s.state_dict() for s in part] for name, part in self.param_schedulers.items()}
                if isinstance(self.param_schedulers, dict)
                else [s.state_dict() for s in self.param_schedulers]
            )
        return content

    def _gradients_under_way(self) -> dict | None:
        """Gradients that are being accumulated and have not been used yet (their mean over the processes)."""
        wrapper = self.optim_wrapper
        if getattr(wrapper, "_accumulative_counts", 1) == 1 or wrapper.should_update():
            return None
        found = {n: p.grad.detach().clone() for n, p in self.bare_model.named_parameters() if p.grad is not None}
        if get_world_size() > 1:
            for gradient in found.values():
                mmengine.dist.all_reduce(gradient, op="mean")
        return _on_cpu(found)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Begin from the weights of a file, of whatever project: see densevit.checkpoints.load_weights."""
        from densevit.checkpoints import load_weights

        receipt = load_weights(self.bare_model, filename)
        self.logger.info(str(receipt))
        checkpoint = {"state_dict": self.bare_model.state_dict()}
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self._has_loaded = True
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of ours or of MMEngine's, as if the run had never stopped.

        Raises:
            CheckpointError: the file cannot be read, or is of another model.
        """
        checkpoint = self.found[1] if self.found else read_file(filename, check_sums=True)
        averages = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if "ema_state_dict" in checkpoint and not averages:
            # the weights that were trained lie under `ema_state_dict`, their averages under `state_dict`
            self.logger.warning(f"{filename} holds averaged weights (ema), which this run does not keep: left out")
            raw = {k[7:]: v for k, v in checkpoint["ema_state_dict"].items() if k.startswith("module.")}
            checkpoint["state_dict"].update(raw)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self._refuse_another_model(filename, checkpoint["state_dict"])
        self.bare_model.load_state_dict(checkpoint["state_dict"], strict=True)
        self._resume_place(checkpoint["meta"])
        self.message_hub.load_state_dict(_hub(checkpoint["message_hub"]))
        try:
            if "optimizer" in checkpoint:
                self.optim_wrapper.load_state_dict(checkpoint["optimizer"])
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"{filename} was written by a run with another optimizer ({error}): resume with its config, or begin "
                f"from its weights with --cfg-options load_from={filename}."
            ) from error
        if "param_schedulers" in checkpoint and self.param_schedulers is not None:
            self._resume_schedulers(checkpoint["param_schedulers"])
        self._waiting = {key: checkpoint.get(key) for key in ("random_streams", "gradients")}
        self._has_loaded = self.resumed = True
        self.logger.info(f"resumed from {filename}: epoch {self.epoch}, iteration {self.iter}")

    def _refuse_another_model(self, filename: str, state: dict) -> None:
        shapes = {name: tuple(value.shape) for name, value in self.bare_model.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in state.items()}
        odd = [name for name in {**shapes, **theirs} if shapes.get(name) != theirs.get(name)]
        if odd:
            names = ", ".join(odd[:8]) + (f" and {len(odd) - 8} more" if len(odd) > 8 else "")
            raise CheckpointError(
                f"{filename} was written by a run of another model, which differs in {names}: resume with its config, "
                f"or use another --work-dir."
            )

    def _resume_place(self, meta: dict) -> None:
        """Epoch and iteration; with another number of images a step, the place in the epoch is that of the images."""
        loop = self.train_loop
        loop._epoch, loop._iter = meta["epoch"], meta["iter"]
        loader = loop.dataloader
        batch, length = (loader.batch_sampler.batch_size or 1) * self.world_size, len(loader)
        if {"epoch_length", "global_batch"} <= meta.keys() and (length, batch) != (
            meta["epoch_length"],
            meta["global_batch"],
        ):
            self.logger.warning(
                f"the checkpoint was written at {meta['global_batch']} images a step and {meta['epoch_length']} steps "
                f"an epoch, now it is {batch} and {length}: the run goes on at the same image, but not as it would have"
            )
            if isinstance(loop, loops.EpochBasedTrainLoop):
                done = (meta["iter"] - meta["epoch"] * meta["epoch_length"]) * meta["global_batch"] // batch
                loop._iter = loop._epoch * length + min(done, length)

    def _resume_schedulers(self, states: Any) -> None:
        if isinstance(self.param_schedulers, dict):
            parts = [(part, states[name]) for name, part in self.param_schedulers.items()]
        else:
            parts = [(self.param_schedulers, states)]
        for schedulers, saved in parts:
            for scheduler, state in zip(schedulers, saved, strict=False):
                scheduler.load_state_dict(state)

    def take_up(self) -> None:
        """Called right before each step: the first one of a run sets the random streams, and after a resume the
        gradients under way."""
        if self._waiting is None:
            if not self.resumed and not self._begun:
                streams.part_ways(self.seed, self.rank)
            self._begun = True
            return
        waiting, self._waiting, self._begun = self._waiting, None, True
        saved = waiting["random_streams"] or []
        if self.rank < len(saved):
            streams.restore(saved[self.rank])
        else:
            self.logger.warning("the checkpoint holds no random streams of this process: the run goes on with new ones")
            streams.part_ways(self.seed, self.rank)
        parameters = dict(self.bare_model.named_parameters())
        for name, gradient in (waiting["gradients"] or {}).items():
            parameters[name].grad = gradient.to(parameters[name].device)

    _begun = False


def _with_type(loop: Any, by_epoch: str, by_iter: str = "") -> Any:
    """A loop's config with the type that MMEngine would choose, so that the registry (and so ours) is asked for it."""
    if not isinstance(loop, dict) or "type" in loop:
        return loop
    rest = {key: value for key, value in loop.items() if key != "by_epoch"}
    return dict(rest, type=by_epoch if loop.get("by_epoch", True) else by_iter)


def _on_cpu(state: Any) -> Any:
    return apply_to(state, lambda x: hasattr(x, "cpu"), lambda x: x.cpu())


def _hub(state: dict) -> dict:
    """The message hub's state as MMEngine takes it."""
    return {key: from_plain(part) for key, part in state.items()}
