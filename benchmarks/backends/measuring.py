"""Peak memory, floating-point operations and the machine's fastest matrix product, measured in this process."""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SQUARES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Sides of the matrices that are multiplied to find a machine's peak."""
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has finished."""
    _wait(device)
    begun = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begun


def gemm_peak(dtype: torch.dtype, device: torch.device) -> float:
    """The most floating-point operations per second that a product of two square matrices reaches here."""
    best = 0.0
    for side in SQUARES[device.type]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        a @ b
        fastest = min(seconds_of(lambda a=a, b=b: a @ b, device) for _ in range(4))
        best = max(best, 2 * side**3 / fastest)
    return best


def flops_of(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products in one call, two for a multiply-add.

    Attention runs unfused, as the counter does not know every fused kernel.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes that one call needs at its peak above what is held before it: the loaded model and its input."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    _return_free_memory()
    before = _reset_peak()
    run()
    return max(_peak() - before, 0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _return_free_memory() -> None:
    """Return freed memory to the system, where its allocator can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _reset_peak() -> int:
    """Bytes held now; on Linux the peak is reset to them."""
    try:
        RESET.write_text("5")
    except OSError:
        return _peak()
    return _peak()


def _peak() -> int:
    """The largest resident size so far, bytes."""
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
