"""One training at a time in a work directory: a file with the process and host that writes there."""

import atexit
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from densevit.errors import ConfigError

NAME = "training.lock"


def acquire(folder: str | os.PathLike) -> None:
    """Lock the work directory for this process until `release` or its exit; the lock of a process that is gone from
    this host is taken over.

    Raises:
        ConfigError: another training runs there, or the lock cannot be written.
    """
    path = Path(folder) / NAME
    own = dict(pid=os.getpid(), host=socket.gethostname(), started=_started(os.getpid()))
    try:
        with _opened(path) as file:
            holder = _holder(file.read())
            if holder is not None and _alive(holder, own):
                raise ConfigError(_sentence(path, holder, own))
            file.seek(0)
            file.truncate()
            file.write(json.dumps(dict(own, since=time.strftime("%Y-%m-%d %H:%M:%S"))))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); use another --work-dir.") from error
    atexit.register(release, folder)


def release(folder: str | os.PathLike) -> None:
    """Remove this process's lock, where it holds one."""
    path = Path(folder) / NAME
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The lock file, which no other process reads or writes meanwhile."""
    while True:
        with open(path, "a+", encoding="utf-8") as file:
            with contextlib.suppress(OSError, ImportError):  # some network file systems have no flock
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.seek(0)
                yield file
                return


def _holder(text: str) -> dict | None:
    """Who wrote the lock; None where that is unreadable, as after a full disk."""
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("pid"), int) and isinstance(found.get("host"), str):
            return found
    return None


def _alive(holder: dict, own: dict) -> bool:
    if holder["host"] != own["host"]:
        return True
    if holder["pid"] == own["pid"]:
        return False
    try:
        os.kill(holder["pid"], 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    # another process may have got its number since
    return _started(holder["pid"]) is not None and holder.get("started") == _started(holder["pid"])


def _started(pid: int) -> str | None:
    """When a process of this host began, in the kernel's ticks; '' where the system does not say, None for a process
    that is over (and only waits for its parent)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if state == "Z" else fields[18]


def _sentence(path: Path, holder: dict, own: dict) -> str:
    where = "" if holder["host"] == own["host"] else f" on {holder['host']}"
    way_on = f"remove {path} if that process is over" if where else "wait for its end"
    return (
        f"{path.parent} is in use by another training, process {holder['pid']}{where} since {holder.get('since')}: "
        f"{way_on}, or use another --work-dir."
    )
