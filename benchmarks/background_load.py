"""Another busy process during a measurement, as on a shared machine."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

PROGRAMS = {
    "busy": "print(flush=True)\nwhile True: pass",
    "torch": "import torch; torch.set_num_threads(2); x = torch.randn(256, 256); print(flush=True)\nwhile True: x @ x",
}


@contextlib.contextmanager
def background_load(kind: str | None) -> Iterator[None]:
    """Run a block while a program of PROGRAMS runs, too; None: alone."""
    if kind is None:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", PROGRAMS[kind]], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # it runs
            yield
        finally:
            process.kill()
