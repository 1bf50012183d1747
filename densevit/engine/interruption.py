"""SIGTERM, SIGINT and SIGHUP during training: the step is finished and saved; a second signal ends the process."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_world_size

from densevit.engine.distributed import reduce_mean

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
ECHO = 0.2
"""Seconds within which the same signal again is not a second one: `timeout` and torchrun send theirs twice."""


class Interruption:
    """Records the first signal for the training loop, which asks for it between two iterations.

    Attributes:
        received: the number of the signal that this process has received, or 0.
    """

    received = 0
    _since = 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Records signals within the block; those that are ignored (nohup) or have another handler are left alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        ours = [n for n, handler in handlers.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
        self.received = 0
        for number in ours:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, handlers[number])

    def _note(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
        elif number != self.received or now - self._since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def share(self) -> dict[str, torch.Tensor]:
        """A value to average over the processes along with others, so that all of them know of a signal."""
        return {"signal": torch.tensor(float(self.received))} if get_world_size() > 1 else {}

    def agreed(self, shared: dict[str, float] | None = None) -> int:
        """The signal that any of the processes has received, or 0; called by all of them at the same point.

        Args:
            shared: the averages with what `share` gave among them, which are removed; by default they are made here.
        """
        shared = reduce_mean(self.share()) if shared is None else shared
        return max(all_gather_object(self.received)) if shared.pop("signal", self.received) else 0


def shield_worker() -> None:
    """Called in a data loader's worker: it ignores signals to the whole process group or job, as the training process
    needs its workers until the iteration is done; only SIGTERM from that process ends them."""
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with, args=(parent.pid,), daemon=True).start()


def _end_with(parent: int | None) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
