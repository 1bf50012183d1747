"""Atomic checkpoints, which a crash, a full disk or a killed process cannot damage.

A file is written beside its name, flushed to the disk and moved over it; older files are removed only after that. Where
a save fails (a full disk), earlier files stay, an error is logged, and training goes on and tries again at the next
interval; if the last save of the training fails, the run ends with an error.
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
from densevit.checkpoints.writing import atomic_write
from densevit.engine.resuming import require_resumable
from densevit.errors import CheckpointError, UserError
from densevit.registry import HOOKS

UNFINISHED = ".unfinished"
LATEST = "latest.pth"
"""A link to the latest checkpoint, for other commands: `tools/test.py CONFIG .../latest.pth`."""


class CheckpointSaveError(Exception):
    """A file could not be written; the file that had its name before is as it was."""


@contextlib.contextmanager
def written_atomically(path: str | os.PathLike) -> Iterator[Any]:
    """Gives a binary file to write; at the end of the block it stands under `path`, whole, or not at all.

    Raises:
        CheckpointSaveError: the disk is full, the folder cannot be written.
    """
    try:
        os.stat(Path(path).parent)  # a folder that is gone is not made again
        with atomic_write(Path(path), UNFINISHED) as unfinished, open(unfinished, "wb") as file:
            yield file
    # torch.save turns the OSError of a full disk into RuntimeErrors of several texts
    except (OSError, RuntimeError) as error:
        raise CheckpointSaveError(f"{path} could not be written ({_reason(error)})") from error


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
        CheckpointSaveError: see `written_atomically`.
    """
    with written_atomically(path) as file:
        torch.save(checkpoint, file)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a small file; where that fails, remove it, as it would be outdated."""
    try:
        with written_atomically(path) as file:
            file.write(text.encode())
    except CheckpointSaveError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def update_symlink(link: Path, name: str) -> None:
    """Make `link` a symbolic link to `name` beside it, atomically, where the file system has links."""
    unfinished = link.with_name(f".{link.name}.{os.getpid()}{UNFINISHED}")
    with contextlib.suppress(OSError, NotImplementedError):
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(name)
        os.replace(unfinished, link)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove the partial files of killed runs."""
    for path in Path(folder).glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            path.unlink()


def plain(value: Any) -> Any:
    """`value` in plain Python and tensors, which torch.load(weights_only=True) reads.

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
        return HistoryBuffer(value["__history__"].numpy(), value["counts"].numpy())
    if isinstance(value, dict):
        return {key: from_plain(item) for key, item in value.items()}
    return value


def find_latest_checkpoint(folder: str | os.PathLike) -> tuple[Path, dict] | None:
    """The latest undamaged, finite checkpoint of a run and its content; a warning is printed for each that is skipped.

    The latest is what `last_checkpoint` names, then the one with the highest number; where names of several kinds
    occur, as epoch_N and iter_N, the one that was trained longest.

    Args:
        folder: of the run's checkpoints; nothing outside it is read.

    Returns:
        tuple | None: None where there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    folder = Path(folder)
    kinds: dict[str, list[Path]] = {}
    for path in folder.glob("*.pth"):
        if not path.name.startswith((".", "best_")) and path.name != LATEST:
            kinds.setdefault(re.sub(r"\d+", "#", path.name), []).append(path)
    for paths in kinds.values():
        paths.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])
    reasons: list[str] = []

    def content(path: Path) -> dict | None:
        try:
            if path.resolve().parent != folder.resolve():
                raise CheckpointError(f"{path} is a link out of its folder, which is not followed.")
            found = read_file(path, check_sums=True)
            require_resumable(path, found)
            return found
        except CheckpointError as error:
            if is_main_process():
                print(f"warning: {error} Looking for the checkpoint before it.", flush=True)
            reasons.append(str(error))
            return None

    with contextlib.suppress(OSError, ValueError):
        named = folder / str(base_name((folder / "last_checkpoint").read_text()))
        for paths in kinds.values():
            if named in paths:
                paths.remove(named)
                found = content(named)
                if found is not None:
                    return named, found
    latest = [
        next(((p, c) for p in reversed(paths) if (c := content(p)) is not None), None) for paths in kinds.values()
    ]
    usable = [pair for pair in latest if pair is not None]
    if usable:
        return max(usable, key=lambda pair: (pair[1]["meta"]["iter"], pair[1]["meta"]["epoch"]))
    if reasons:
        raise CheckpointError(
            f"none of the {len(reasons)} checkpoints in {folder} can be used to resume ({reasons[0].rstrip('.')}); "
            f"start again without --resume, or with another --work-dir."
        )
    return None


def base_name(text: Any) -> str | None:
    """The file's name of a path that a run has saved, which may be one of another machine."""
    name = re.split(r"[\\/]", text.strip())[-1] if isinstance(text, str) else ""
    return name if name.strip(".") else None


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's, with saves that may fail, older files removed after the new one stands, and metrics of dense
    prediction known to `save_best='auto'`. The arguments are MMEngine's (the interval, `max_keep_ckpts`, `save_best`,
    `rule`, ...)."""

    _default_greater_keys = [*MMEngineCheckpointHook._default_greater_keys, "AP", "AR", "IoU", "Acc", "delta", "d1"]
    _default_less_keys = [*MMEngineCheckpointHook._default_less_keys, "rmse", "rel", "log10", "silog", "error"]

    def before_train(self, runner: Any) -> None:
        # a resumed run's state names files, which may be anywhere: only names within the own folder count
        info = runner.message_hub.runtime_info
        best = {key: base_name(info[key]) for key in info if str(key).startswith("best_ckpt")}
        info.update({key: name if name and name.startswith("best_") else None for key, name in best.items()})
        ids = info.get("keep_ckpt_ids")
        info["keep_ckpt_ids"] = [i for i in ids if type(i) is int] if isinstance(ids, (list, tuple)) else []
        super().before_train(runner)
        if getattr(self, "best_ckpt_path", None):
            self.best_ckpt_path = self._path(self.best_ckpt_path)
        for key, name in getattr(self, "best_ckpt_path_dict", {}).items():
            self.best_ckpt_path_dict[key] = name and self._path(name)
        if runner.resumed and runner.resume_checkpoint:  # the validation after a resume may save its best score
            self.last_ckpt, self.saved_iter = self._path(runner.resume_checkpoint[0].name), runner.iter
        if is_main_process():
            Path(self.out_dir).mkdir(parents=True, exist_ok=True)
            remove_unfinished(self.out_dir)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Save file names without their folder, so that a copied or moved run resumes from its own files."""
        info = checkpoint["message_hub"]["runtime_info"]
        info.update({k: base_name(v) for k, v in info.items() if k == "last_ckpt" or str(k).startswith("best_ckpt")})

    def save_now(self, runner: Any) -> str | None:
        """Save the run between two iterations, where no checkpoint has this state yet.

        Returns:
            str | None: the file that holds it; None at the start of a run, and where it could not be written.
        """
        if runner.iter != self.saved_iter:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(
                runner, runner.iter, meta, f"iter_{runner.iter}.pth" if self.by_epoch else None
            )
        return self.last_ckpt if runner.iter == self.saved_iter and runner.iter else None

    saved_iter = 0

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)

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

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict, extra: str | None = None) -> None:
        """`extra` names a file between two epochs, which the next regular checkpoint replaces."""
        hub = runner.message_hub
        before = dict(hub.runtime_info)
        name = extra or self.filename_tmpl.format(step)
        path = self._path(name)
        drop = []
        if self.max_keep_ckpts > 0 and not extra:
            keep = [i for i in hub.get_info("keep_ckpt_ids", []) if i != step] + [step]
            drop = [self.filename_tmpl.format(i) for i in keep[: -self.max_keep_ckpts]]
            hub.update_info("keep_ckpt_ids", keep[-self.max_keep_ckpts :])
            between = base_name(hub.get_info("extra_ckpt"))
            drop += [between] if between and re.fullmatch(r"iter_\d+\.pth", between) else []
        hub.update_info("extra_ckpt", extra)
        hub.update_info("last_ckpt", path)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer or bool(extra),
                save_param_scheduler=self.save_param_scheduler or bool(extra),
                meta=dict(meta),
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
            )
        except CheckpointSaveError as error:
            hub.runtime_info.clear()
            hub.runtime_info.update(before)
            self.failed = (step, meta, extra)
            runner.logger.error(f"{error}; the checkpoint before it is whole; training goes on and tries again later.")
            return
        self.last_ckpt, self.failed, self.saved_iter = path, None, meta["iter"]
        if is_main_process():
            write_text_atomic(Path(runner.work_dir) / "last_checkpoint", name)
            if Path(self.out_dir) != Path(runner.work_dir):
                write_text_atomic(Path(self.out_dir) / "last_checkpoint", name)
            update_symlink(Path(self.out_dir) / LATEST, name)
            for old in drop:
                self._remove(self._path(old))

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
        except CheckpointSaveError as error:
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
