"""A process beside the measured ones, as users' machines are shared."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

PROGRAMS = {
    "busy": "print(flush=True)\nwhile True: pass",
    "torch": "import torch; torch.set_num_threads(2); x = torch.randn(256, 256); print(flush=True)\nwhile True: x @ x",
}


@contextlib.contextmanager
def company(kind: str | None) -> Iterator[None]:
    """Runs a block while a program of PROGRAMS runs beside it; None: alone."""
    if kind is None:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", PROGRAMS[kind]], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # it has begun
            yield
        finally:
            process.kill()
