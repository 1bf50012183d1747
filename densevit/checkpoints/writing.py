"""Writes a file beside its name and moves it over it, so that the name always has a whole file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path, ending: str = "") -> Iterator[Path]:
    """The path to write to, in the same folder, which is made; moved over `path` if nothing is raised, else removed.

    Args:
        path: it has the file that it had, or the new one on the disk.
        ending: of the file that is being written; by default that of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # the process's number: two runs in one folder do not write into each other's files
    partial = path.with_name(f".{path.name}.{os.getpid()}{ending or path.suffix}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        with contextlib.suppress(OSError):  # the name itself; some file systems cannot sync a folder
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
