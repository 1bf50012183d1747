"""The time to import a package, in a new interpreter each time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import densevit
from benchmarks.process import how_to_install
from benchmarks.ratios import Ratio, alternate, ratio_of
from densevit.errors import ConfigError

STAND_IN = Path(__file__).parent / "backends" / "mmcv_stand_in.py"
OURS = ("import densevit", "from densevit import Predictor")
"""The package alone, which does not import torch, and everything that a prediction needs."""


def measure_import(peer: str, peer_python: str | os.PathLike | None = None, rounds: int = 5) -> dict[str, Ratio]:
    """Seconds of `python -c "import densevit"` against `import mmdet.apis` or `import mmseg.apis`.

    The first run of each, which reads the files from the disk, is not counted.

    Returns:
        dict: our statement -> the ratio.

    Raises:
        ConfigError: `peer_python` cannot be started, or cannot import the peer.
    """
    python = str(peer_python or sys.executable)
    prepare = f"exec(open({str(STAND_IN)!r}).read()); install(); "
    theirs = [python, "-c", f"{prepare}import {peer}.apis"]
    found = {}
    for statement in OURS:
        ours = [sys.executable, "-c", statement]
        _time(ours, "densevit"), _time(theirs, peer)
        times = alternate(lambda ours=ours: _time(ours, "densevit"), lambda: _time(theirs, peer), rounds)
        found[f"{statement}; {peer}: import {peer}.apis"] = ratio_of(*times)
    return found


def _time(command: list[str], project: str) -> float:
    environment = dict(os.environ, PYTHONWARNINGS="ignore")
    if project == "densevit":
        above = str(Path(densevit.__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), above)))
    begun = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise ConfigError(f"--peer-python {command[0]} cannot be started ({error.strerror}).") from None
    taken = time.perf_counter() - begun
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise ConfigError(
            f"{command[0]} cannot import {project} ({last[:200]}): name another one with --peer-python, made with "
            f"{how_to_install(project)}."
        )
    return taken
