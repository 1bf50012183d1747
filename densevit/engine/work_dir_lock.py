"""A lock file in the work directory, with the process and host of the training that runs there."""

import atexit
import contextlib
import json
import os
import socket
import time
from pathlib import Path

from densevit.errors import ConfigError

NAME = "training.lock"


def acquire(folder: str | os.PathLike) -> None:
    """Lock the work directory for this process until `release` or its exit; the lock of a process of this host that has
    ended is replaced.

    Raises:
        ConfigError: another training runs there.
    """
    path, own = Path(folder) / NAME, dict(pid=os.getpid(), host=socket.gethostname(), started=_started(os.getpid()))
    with open(path, "a+", encoding="utf-8") as file:
        with contextlib.suppress(OSError, ImportError):  # some network file systems have no flock
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # no lock, as after a full disk
            holder = json.loads(file.read())
            elsewhere = holder["host"] != own["host"]
            if elsewhere or (holder["pid"] != own["pid"] and holder["started"] == _started(holder["pid"])):
                where = f" on {holder['host']}" if elsewhere else ""
                way_on = f"remove {path} if that process is over" if elsewhere else "wait for its end"
                raise ConfigError(
                    f"{folder} is in use by another training, process {holder['pid']}{where} since "
                    f"{holder.get('since')}: {way_on}, or use another --work-dir."
                )
        file.truncate(0)
        file.write(json.dumps(dict(own, since=time.strftime("%Y-%m-%d %H:%M:%S"))))
        file.flush()
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):  # released meanwhile
            return acquire(folder)
    atexit.register(release, folder)


def release(folder: str | os.PathLike) -> None:
    """Remove this process's lock, where it holds one."""
    path = Path(folder) / NAME
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()


def _started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks ('' where the system has no /proc); None for one that has
    ended or is a zombie."""
    with contextlib.suppress(PermissionError):  # it is another user's
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if state == "Z" else fields[18]
