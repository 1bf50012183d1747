"""The process of a project: start it, send requests, turn its failures into error messages."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import densevit
from densevit.errors import ConfigError

BACKENDS = Path(__file__).parent / "backends"
BEGIN = """
import importlib.util, sys
folder, parent = sys.argv[1:]
sys.path = [entry for entry in sys.path if entry] + ([parent] if parent else [])
spec = importlib.util.spec_from_file_location(
    "benchmark_backends", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["benchmark_backends"] = importlib.util.module_from_spec(spec)
from benchmark_backends.worker import main
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
"""Project -> what to pip install into its environment."""


class BackendProcess:
    """The process that runs one project.

    Args:
        project: a key of INSTALL, with ' data' after it for a pipeline.
        python: the interpreter of the environment that has it; None: the present one.
        threads: of torch.

    Raises:
        ConfigError: `python` cannot be started.
    """

    def __init__(self, project: str, python: str | os.PathLike | None = None, threads: int = 1):
        self.project, self.python, self.threads = project, str(python or sys.executable), threads
        environment = {**os.environ, **{f"{kind}_NUM_THREADS": str(threads) for kind in ("OMP", "MKL", "OPENBLAS")}}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        parent = "" if python else str(Path(densevit.__file__).parents[1])
        self.printed = tempfile.TemporaryFile("w+")  # noqa: SIM115  an unread pipe would fill up
        try:
            self.process = subprocess.Popen(
                [self.python, "-c", BEGIN, str(BACKENDS), parent],
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
        """Send a request and return the answer.

        Raises:
            ConfigError: the project is not installed there, or what is requested does not exist.
            RuntimeError: any other failure there.
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
        if answer["failed"] == "BackendError":
            raise ConfigError(answer["message"])
        if answer.get("missing"):
            raise ConfigError(
                f"{self.python} cannot import {answer['missing']}, which {self.project} needs: name another one with "
                f"--peer-python, made with {how_to_install(self.project)}."
            )
        if answer["failed"] in ("ConfigError", "CheckpointError", "UnsupportedModelError", "DataError"):
            raise ConfigError(answer["message"])
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

    def __enter__(self) -> "BackendProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def how_to_install(project: str) -> str:
    """The command that creates an environment for a project."""
    return f"python -m venv peer && peer/bin/pip install {INSTALL[project.split()[0]]}"
