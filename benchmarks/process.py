"""Our end of a side's process: start it, ask it, turn what fails there into a sentence."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import densevit
from densevit.errors import ConfigError

SIDES = Path(__file__).parent / "sides"
BEGIN = """
import importlib.util, sys
folder, above = sys.argv[1:]
sys.path = [entry for entry in sys.path if entry] + ([above] if above else [])
spec = importlib.util.spec_from_file_location(
    "benchmark_sides", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["benchmark_sides"] = importlib.util.module_from_spec(spec)
from benchmark_sides.worker import main
main()
"""
OPENMMLAB = "torch torchvision mmengine==0.10.7 mmcv-lite==2.1.0 'setuptools<81'"
INSTALL = {
    "mmdet": f"{OPENMMLAB} mmdet==3.3.0",
    "mmseg": f"{OPENMMLAB} mmsegmentation==1.2.2 ftfy regex",
    "timm": "torch torchvision timm",
    "transformers": "torch torchvision transformers",
    "torchvision": "torch torchvision",
    "densevit": "densevit",
}
"""Project -> what pip installs into an environment of its own for it."""


class SideProcess:
    """One side of a comparison.

    Args:
        project: a key of INSTALL, with ' data' after it for a pipeline.
        python: the interpreter of the environment that has it; None the present one.
        threads: of torch.

    Raises:
        ConfigError: `python` cannot be started.
    """

    def __init__(self, project: str, python: str | os.PathLike | None = None, threads: int = 1):
        self.project, self.python, self.threads = project, str(python or sys.executable), threads
        environment = {**os.environ, **{f"{kind}_NUM_THREADS": str(threads) for kind in ("OMP", "MKL", "OPENBLAS")}}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        above = "" if python else str(Path(densevit.__file__).parents[1])
        self.printed = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe that nobody reads would fill up
        try:
            self.process = subprocess.Popen(
                [self.python, "-c", BEGIN, str(SIDES), above],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.printed,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise ConfigError(
                f"--peer-python {self.python} cannot be started ({error.strerror}): name the python of an environment "
                f"with {project}, such as peer/bin/python after {how_to_install(project)}."
            ) from None

    def ask(self, do: str, *arguments: Any, **named: Any) -> Any:
        """What the side answers.

        Raises:
            ConfigError: its project is not installed there, or what is asked of it does not exist.
            RuntimeError: anything else that fails there.
        """
        request = {"do": do, "arguments": arguments, "project": self.project, "threads": self.threads, **named}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or "{}")
        except (BrokenPipeError, json.JSONDecodeError):
            answer = {}
        if "done" in answer:
            return answer["done"]
        if not answer:
            code = self.process.wait()
            self.printed.seek(0)
            last = (self.printed.read().strip().splitlines() or [""])[-1]
            raise ConfigError(
                f"the process of {self.project} ({self.python}) ended with code {code} {last[:200]}: an environment "
                f"for it is made with {how_to_install(self.project)}."
            )
        if answer["failed"] == "Wrong":
            raise ConfigError(answer["says"])
        if answer.get("missing"):
            raise ConfigError(
                f"{self.python} cannot import {answer['missing']}, which {self.project} needs: name another one with "
                f"--peer-python, made with {how_to_install(self.project)}."
            )
        if answer["failed"] in ("ConfigError", "CheckpointError", "NotBuilt", "DataError"):
            raise ConfigError(answer["says"])
        raise RuntimeError(f"{self.project}: {answer['failed']}: {answer['says']}\n{answer['trace']}")

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.printed.close()

    def __enter__(self) -> "SideProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def how_to_install(project: str) -> str:
    """The command that makes an environment for a project."""
    return f"python -m venv peer && peer/bin/pip install {INSTALL[project.split()[0]]}"
