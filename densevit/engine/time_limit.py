"""Training for a given time: the learning rate follows the clock, and the run ends with its schedule."""

import math
import time
from typing import Any

from mmengine.hooks import Hook

from densevit.engine.distributed import broadcast
from densevit.errors import ConfigError
from densevit.registry import HOOKS

ELAPSED = "trained_seconds"
"""Key of the training time so far in a checkpoint's message hub."""
UNKNOWN = 1_000_000
"""Iterations of a run whose speed is not measured yet."""


@HOOKS.register_module()
class TimeLimitHook(Hook):
    """Ends an iteration-based training when its time is up.

    The learning rate rises linearly during the warmup and falls along a cosine to 0 at the end, whatever the speed of
    the machine. A resumed run has the time that was left. Two runs of one seed are not equal, as their speeds differ.

    Args:
        seconds: time of the whole run.
        warmup: fraction of it during which the learning rate rises.
        reserve: fraction of it that is kept for the last validation and checkpoint.

    Raises:
        ConfigError: a value out of range, or a loop that counts epochs.
    """

    def __init__(self, seconds: float, warmup: float = 0.03, reserve: float = 0.1) -> None:
        if not seconds > 0 or not 0 <= warmup < 1 or not 0 <= reserve < 1:
            raise ConfigError(f"TimeLimitHook takes seconds > 0 and fractions, not {seconds}, {warmup}, {reserve}.")
        self.limit, self.warmup = seconds * (1 - reserve), warmup
        self.before = self.start = 0.0
        self.first = 0

    def before_train(self, runner: Any) -> None:
        if runner.cfg.train_cfg.get("type") != "IterBasedTrainLoop":
            raise ConfigError("TimeLimitHook needs train_cfg=dict(type='IterBasedTrainLoop', ...).")
        self.before = float(runner.message_hub.runtime_info.get(ELAPSED, 0.0))
        self.start, self.first = time.monotonic(), runner.iter

    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.before + time.monotonic() - self.start

    def factor(self, elapsed: float) -> float:
        """Of the learning rate after so many seconds, 0 to 1."""
        progress = min(elapsed / self.limit, 1.0)
        rise = min(progress / self.warmup, 1.0) if self.warmup else 1.0
        return rise * 0.5 * (1 + math.cos(math.pi * progress))

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        factor = self.factor(self.elapsed())
        for group in runner.optim_wrapper.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Set the loop's last iteration to where the time will be up at the mean speed so far."""
        done, elapsed = runner.iter + 1, self.elapsed()
        runner.message_hub.update_info(ELAPSED, elapsed)
        speed = (done - self.first) / max(elapsed - self.before, 1e-6)
        # ranks measure different times, and have to stop after the same iteration
        runner.train_loop._max_iters = broadcast(done + int(max(0.0, self.limit - elapsed) * speed))
