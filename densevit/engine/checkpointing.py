"""Checkpoints that a crash, a full disk or a killed process cannot spoil.

A file is written under another name in the same folder, flushed to the disk and moved over its name; older files are
removed only after that. When a save fails (a full disk), the files before stay as they are, one line says so, training
goes on and tries again at the next interval; if the last save of the training failed too, the run ends with an error.
"""

import contextlib
import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import HistoryBuffer

from densevit.checkpoints.reading import read_file
from densevit.errors import CheckpointError, UserError
from densevit.registry import HOOKS

UNFINISHED = ".unfinished"
LATEST = "latest.pth"
"""A link to the newest checkpoint, for commands that go on from a training: `tools/test.py CONFIG .../latest.pth`."""


class SaveFailed(Exception):
    """A file could not be written; the file that had its name before is as it was."""


@contextlib.contextmanager
def written_atomically(path: str | os.PathLike) -> Iterator[Any]:
    """Gives a binary file to write; at the end of the block it stands under `path`, whole, or not at all.

    Raises:
        SaveFailed: the disk is full, the folder cannot be written.
    """
    path = Path(path)
    # the process's number: two runs in one folder do not write into each other's files
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        with contextlib.suppress(OSError):  # the name itself; some file systems cannot sync a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    # torch.save turns the OSError of a full disk into RuntimeErrors of several texts
    except (OSError, RuntimeError) as error:
        raise SaveFailed(f"{path} could not be written ({_reason(error)})") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:120]


def save_atomically(checkpoint: dict, path: str | os.PathLike) -> None:
    """torch.save, whole or not at all.

    Raises:
        SaveFailed: see `written_atomically`.
    """
    with written_atomically(path) as file:
        torch.save(checkpoint, file)


def note(path: Path, text: str) -> None:
    """Write a small file whole; where that fails, rather none than an outdated one."""
    try:
        with written_atomically(path) as file:
            file.write(text.encode())
    except SaveFailed:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def point_at(link: Path, name: str) -> None:
    """Make `link` a symbolic link to `name` beside it, at no moment to nothing; not where the file system has none."""
    unfinished = link.with_name(f".{link.name}.{os.getpid()}{UNFINISHED}")
    with contextlib.suppress(OSError, NotImplementedError):
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(name)
        os.replace(unfinished, link)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove what killed runs left half written."""
    for path in Path(folder).glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            path.unlink()


def plain(value: Any) -> Any:
    """`value` in plain Python and tensors, which torch.load(weights_only=True) takes without being told of any class.

    HistoryBuffers become dictionaries (see `from_plain`), numpy arrays lists, anything unknown its text.
    """
    if isinstance(value, HistoryBuffer):
        log, counts = value.data
        return {"__history__": torch.from_numpy(log.copy()), "counts": torch.from_numpy(counts.copy())}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if value is None or isinstance(value, (str, int, float, bool, torch.Tensor)):
        return value
    return str(value)


def from_plain(value: Any) -> Any:
    """The inverse of `plain` for HistoryBuffers."""
    if isinstance(value, dict) and "__history__" in value:
        buffer = HistoryBuffer()
        buffer._log_history, buffer._count_history = value["__history__"].numpy(), value["counts"].numpy()
        return buffer
    if isinstance(value, dict):
        return {key: from_plain(item) for key, item in value.items()}
    return value


def find_last_good(folder: str | os.PathLike) -> tuple[Path, dict] | None:
    """The newest checkpoint of a run that is whole, and its content; each damaged one is named in a printed line.

    Args:
        folder: the run's work_dir.

    Returns:
        tuple | None: None where there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    folder = Path(folder)
    candidates = [p for p in folder.glob("*.pth") if not p.name.startswith((".", "best_")) and p.name != LATEST]
    candidates.sort(key=lambda p: (p.stat().st_mtime_ns, [int(n) for n in re.findall(r"\d+", p.name)]), reverse=True)
    with contextlib.suppress(OSError):
        named = Path((folder / "last_checkpoint").read_text().strip())
        named = named if named.is_file() else folder / named.name  # the folder may have been moved
        if named.is_file():
            candidates = [named, *(p for p in candidates if p.resolve() != named.resolve())]
    for path in candidates:
        try:
            content = read_file(path, check_sums=True)
            if not {"meta", "state_dict", "optimizer", "message_hub"} <= set(content):
                raise CheckpointError(f"{path} holds weights alone, from which a run cannot go on.")
        except CheckpointError as error:
            if is_main_process():
                print(f"warning: {error} Looking for the checkpoint before it.", flush=True)
            continue
        return path, content
    if candidates:
        raise CheckpointError(
            f"none of the {len(candidates)} checkpoints in {folder} can be used to resume; start again without "
            f"--resume, or with another --work-dir."
        )
    return None


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's, with saves that may fail, older files removed after the new one stands, and metrics of dense
    prediction known to `save_best='auto'`. The arguments are MMEngine's (the interval, `max_keep_ckpts`, `save_best`,
    `rule`, ...)."""

    _default_greater_keys = [*MMEngineCheckpointHook._default_greater_keys, "AP", "AR", "IoU", "Acc", "delta", "d1"]
    _default_less_keys = [*MMEngineCheckpointHook._default_less_keys, "rmse", "rel", "log10", "silog", "error"]

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        if is_main_process():
            remove_unfinished(self.out_dir)

    def after_train(self, runner: Any) -> None:
        if self.failed:
            self._save_checkpoint_with_step(runner, *self.failed)
        if self.failed:
            raise UserError(
                f"the training is done, but its last checkpoint could not be written to {self.out_dir}; make room "
                f"there and run the same command with --resume."
            )
        super().after_train(runner)

    failed: tuple | None = None

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        hub = runner.message_hub
        before = dict(hub.runtime_info)
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        keep = [i for i in hub.get_info("keep_ckpt_ids", []) if i != step] + [step]
        drop = keep[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        if self.max_keep_ckpts > 0:
            hub.update_info("keep_ckpt_ids", [i for i in keep if i not in drop])
        hub.update_info("last_ckpt", path)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=dict(meta),
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
            )
        except SaveFailed as error:
            hub.runtime_info.clear()
            hub.runtime_info.update(before)
            self.failed = (step, meta)
            runner.logger.error(f"{error}; the checkpoint before it is whole; training goes on and tries again later.")
            return
        self.last_ckpt, self.failed = path, None
        if is_main_process():
            note(Path(runner.work_dir) / "last_checkpoint", str(path))
            point_at(Path(self.out_dir) / LATEST, name)
            for old in drop:
                self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        """MMEngine's removes the best file so far before it writes the new one: its removals wait until then."""
        hub, backend = runner.message_hub, self.file_backend
        before = dict(hub.runtime_info)
        paths = {name: copy.copy(value) for name, value in vars(self).items() if name.startswith("best_ckpt_path")}
        self.file_backend = later = _LaterRemovals(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        except SaveFailed as error:
            hub.runtime_info.clear()
            hub.runtime_info.update(before)
            vars(self).update(paths)
            runner.logger.error(f"{error}; the best checkpoint before it is whole.")
            return
        finally:
            self.file_backend = backend
        best = {getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()}
        for path in later.removals - best:
            self._remove(path)


class _LaterRemovals:
    """A file backend that notes what to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: set[str] = set()

    def remove(self, path: str) -> None:
        self.removals.add(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
