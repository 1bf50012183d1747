"""When the forms that one device does faster give way to torch's own operators, step by step."""

from collections.abc import Sequence

import torch


def plain_form() -> bool:
    """Whether the operations are recorded (torch.compile, torch.export, torch.jit.trace) and not just run: what is
    recorded has to hold for other inputs, devices and programs, so kernels take their plain form and caches stay out.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def fixed_size(size: Sequence[int]) -> tuple[int, ...]:
    """A size as Python numbers: torch.jit.trace gives tensors, which become constants of its graph."""
    return tuple(map(int, size)) if torch.jit.is_tracing() else tuple(size)
