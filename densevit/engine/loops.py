"""MMEngine's loops, with exact resume, and losses that are averaged over the processes.

They are registered in densevit's LOOPS under MMEngine's names (EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop,
TestLoop), so that a config gets these.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import loops
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from densevit.engine import rng_state
from densevit.engine.before_training import check_before_training
from densevit.engine.checkpointing import write_text_atomic
from densevit.engine.distributed import broadcast, errors_of_one_process, reduce_mean
from densevit.errors import ConfigError, UserError
from densevit.registry import LOOPS

PATIENCE = 50
"""Iterations in a row with a loss that is not finite, after which a training ends."""


def batches(loader: DataLoader, epoch: int = 0, skip: int = 0) -> Iterator[Any]:
    """The batches of one epoch from the `skip`-th on; those before are not loaded, where the loader is our Runner's.

    A UserError in a worker process is raised without the worker's traceback in its message.
    """
    sampler = getattr(loader.batch_sampler, "sampler", None) or loader.sampler
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    left = 0
    if hasattr(loader.batch_sampler, "skip"):
        loader.batch_sampler.skip = skip
    else:
        left = skip
    iterator = iter(loader)
    while True:
        with errors_of_one_process():
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except UserError as error:
                raise type(error)(_sentence(error)) from error
        if left:
            left -= 1
            continue
        yield batch


def _names(batch: Any) -> list[str]:
    """The files of a batch's images."""
    samples = batch.get("data_samples") or () if isinstance(batch, dict) else ()
    return [str(getattr(sample, "img_path", None) or getattr(sample, "img_id", "?")) for sample in samples]


def _sentence(error: UserError) -> str:
    """An error's own message, without the traceback that torch puts before it in a worker."""
    text = str(error)
    mark = f"{type(error).__name__}: "
    return text.rsplit(mark, 1)[1].strip() if "worker process" in text and mark in text else text


class _Training:
    """What the two training loops share: `_advance` by an epoch or an iteration, with validation in between."""

    bad_losses = 0
    recent: tuple = ()  # (iteration, its images' names) of the last two iterations, the latest first

    def run(self) -> torch.nn.Module:
        runner = self.runner
        check_before_training(runner)
        runner.call_hook("before_train")
        self._start()
        self._decide_current_val_interval()
        self._run_missed_validation(self._between_epochs() and self._validation_due())
        while self._progress()[0] < self._progress()[1] and not self.stop_training:
            self._advance()
            self._decide_current_val_interval()
            if self._validation_due():
                self._validate()
        self._finish()
        runner.call_hook("after_train")
        return runner.model

    def _validation_due(self) -> bool:
        done, end = self._progress()
        regular = done % self.val_interval == 0 or done == end
        return self.runner.val_loop is not None and done >= max(self.val_begin, 1) and regular

    def _start(self) -> None:
        pass

    _finish = _start

    def _between_epochs(self) -> bool:
        return True

    def _step(self, index: int, batch: Any) -> None:
        """One iteration with its hooks; the logged losses are the means over all processes."""
        runner = self.runner
        self.recent = ((self._iter + 1, _names(batch)), *self.recent[:1])
        runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch)
        with errors_of_one_process():
            losses = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        outputs = reduce_mean({**losses, **runner.interruption.share()})
        shared = {key: outputs.pop(key) for key in outputs.keys() - losses.keys()}
        self.bad_losses = 0 if all(map(math.isfinite, outputs.values())) else self.bad_losses + 1
        if self.bad_losses:  # gradients that overflow are skipped by a loss scaler, and then the weights are finite
            runner.stop_if_not_finite()
        if self.bad_losses == PATIENCE:
            raise ConfigError(
                f"the loss has not been a number for {PATIENCE} iterations, up to iteration {self._iter + 1}: lower "
                f"the learning rate or clip the gradients, and resume from a checkpoint before that."
            )
        runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch, outputs=outputs)
        self._iter += 1
        runner.stop_if_interrupted(shared)

    def _validate(self) -> None:
        """Validation, which does not change the training's RNG state, also not in checkpoints that it saves."""
        with rng_state.preserve_rng_state() as before:
            self.runner.saved_rng_state = before
            self.runner.val_loop.run()
            self.runner.saved_rng_state = None
        if is_main_process():
            write_text_atomic(self._mark, str(self._iter))
        self.runner.stop_if_interrupted()

    @property
    def _mark(self) -> Path:
        return Path(self.runner.work_dir) / "last_validated"

    def _run_missed_validation(self, due: bool) -> None:
        """Run the validation that a resumed run has missed, as it ended between a checkpoint and its validation."""
        self.runner.stop_if_interrupted()
        if not self.runner.resumed:
            if is_main_process():
                self._mark.unlink(missing_ok=True)
            return
        try:
            validated = self._mark.read_text().strip()
        except OSError:
            validated = ""
        if due and broadcast(validated) != str(self._iter):
            self._validate()


@LOOPS.register_module()
class EpochBasedTrainLoop(_Training, loops.EpochBasedTrainLoop):
    """Training by epochs. The arguments are MMEngine's: max_epochs, val_begin, val_interval, dynamic_intervals."""

    def _progress(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def _between_epochs(self) -> bool:
        """False for a checkpoint saved by iterations at the end of an epoch, whose last hooks have yet to run."""
        return self._iter == self._epoch * len(self.dataloader)

    def _advance(self) -> None:
        self.run_epoch()

    def run_epoch(self) -> None:
        """The batches of one epoch that have not been trained on yet."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        for index, batch in enumerate(batches(self.dataloader, self._epoch, done), done):
            self.runner.restore_pending()
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        self._step(idx, data_batch)


@LOOPS.register_module()
class IterBasedTrainLoop(_Training, loops.IterBasedTrainLoop):
    """Training by iterations. The arguments are MMEngine's: max_iters, val_begin, val_interval, dynamic_intervals."""

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # not MMEngine's own constructor: that starts the workers at once, at the first batch
        BaseLoop.__init__(self, runner, dataloader)
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._epoch = self._iter = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def _progress(self) -> tuple[int, int]:
        return self._iter, self._max_iters

    def _start(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self._batches = self._endless()

    def _finish(self) -> None:
        self.runner.call_hook("after_train_epoch")

    def _advance(self) -> None:
        self.runner.model.train()
        batch = next(self._batches)
        self.runner.restore_pending()
        self.run_iter(batch)

    def _endless(self) -> Iterator[Any]:
        """Epoch after epoch, from the batch that comes after the last one trained on."""
        epoch, done = divmod(self._iter, len(self.dataloader))
        if type(self.dataloader.batch_sampler.sampler).__name__ == "InfiniteSampler":  # one epoch without end
            epoch, done = 0, self._iter
        while True:
            yield from batches(self.dataloader, epoch, done)
            epoch, done = epoch + 1, 0

    def run_iter(self, data_batch: Any) -> None:
        self._step(self._iter, data_batch)


def predicted(loop: Any, batch: Any, losses: dict[str, HistoryBuffer]) -> list:
    """The samples of one batch with the model's predictions; with ground truth, its losses are added to `losses`."""
    model = loop.runner.model
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=loop.amp):
        outputs = model.val_step(batch)  # in tests as well
    if isinstance(outputs[-1], BaseDataElement) and outputs[-1].keys() == ["loss"]:
        *outputs, last = outputs
        for name, value in last.loss.items():
            for part in value if isinstance(value, list) else [value]:
                losses.setdefault(name, HistoryBuffer()).update(part.item())
    return outputs


class _Evaluation:
    """What validation and test share: the metrics, and the losses as well.

    Args:
        amp: predict under bf16 autocast.
    """

    stage: str

    def __init__(self, runner: Any, dataloader: DataLoader | dict, evaluator: Any, amp: bool = False) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.amp, self.losses = amp, {}

    def run(self) -> dict:
        """One pass over a dataset: metrics, and the mean losses over all images' batches of all processes."""
        runner, stage = self.runner, self.stage
        runner.call_hook(f"before_{stage}")
        runner.call_hook(f"before_{stage}_epoch")
        runner.model.eval()
        self.losses.clear()
        for metric in self.evaluator.metrics:
            if dist.get_world_size() > 1:
                metric.collect_device = "gpu"  # through the process group, not through a folder `.dist_test` in the cwd
        for index, batch in enumerate(batches(self.dataloader)):
            self.run_iter(index, batch)
            if stage == "val" and runner.interruption.agreed():
                for hook in runner.hooks:
                    if isinstance(hook, EMAHook):  # the trained weights come back in place of their averages
                        hook.after_val_epoch(runner)
                runner.stop_if_interrupted()
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        means = reduce_mean({name: torch.tensor(float(buffer.mean())) for name, buffer in self.losses.items()})
        total = means.pop("loss", None)
        metrics.update({f"{stage}_{name}" if name.startswith("loss") else name: value for name, value in means.items()})
        if total is None and means:
            total = sum(value for name, value in means.items() if "loss" in name)
        if total is not None:
            metrics[f"{stage}_loss"] = total
        runner.call_hook(f"after_{stage}_epoch", metrics=metrics)
        runner.call_hook(f"after_{stage}")
        return metrics

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One batch through the model into the metrics."""
        step = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook(f"before_{self.stage}_iter", **step)
        with errors_of_one_process():
            outputs = predicted(self, data_batch, self.losses)
            self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(f"after_{self.stage}_iter", **step, outputs=outputs)


@LOOPS.register_module()
class ValLoop(_Evaluation, loops.ValLoop):
    """Validation."""

    stage = "val"


@LOOPS.register_module()
class TestLoop(_Evaluation, loops.TestLoop):
    """The same over the test set."""

    __test__ = False  # no test class, whatever pytest thinks of the name
    stage = "test"
