"""Paths of results: checked to be writable and to be no input of the same command; file names made of image ids."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from densevit.errors import ConfigError

LONGEST = 220
"""Bytes of one part of a file name without its suffix; file systems take 255 with it."""


class Inputs:
    """The files and folders that a command reads, and which its results may not overwrite.

    They are compared by inode: symbolic links, hard links and other spellings of a path are the same file.

    Args:
        paths: called for the files and folders when something that exists would be written; others are skipped.
    """

    def __init__(self, paths: Callable[[], Iterable[str | os.PathLike]]) -> None:
        self._paths = paths
        self._known: set[tuple[int, int]] | None = None

    def __contains__(self, path: str | os.PathLike) -> bool:
        identity = _identity(path)
        if identity is None:
            return False
        if self._known is None:
            self._known = {_identity(known) for known in self._paths()} - {None}
        return identity in self._known


def files_of(*paths: str | os.PathLike) -> Inputs:
    """Inputs by their paths; of a folder the files directly in it."""
    inner = (file for path in paths if os.path.isdir(path) for file in Path(path).iterdir() if file.is_file())
    return Inputs(lambda: [*(path for path in paths if not os.path.isdir(path)), *inner])


def inputs_of(config: Any, *datasets: Any, files: Iterable[str | os.PathLike] = ()) -> Inputs:
    """What a run of a config reads: `files`, the files and data folders in the config, and the files of built datasets
    (`img_path`, `seg_path`, ...)."""

    def paths() -> Iterator[str]:
        yield from map(os.fspath, files)
        yield from named_paths(config)
        for dataset in datasets:
            for index in range(len(dataset) if hasattr(dataset, "get_data_info") else 0):
                entry = dataset.get_data_info(index)
                yield from (v for k, v in entry.items() if k.endswith("_path") and isinstance(v, str))

    return Inputs(paths)


def named_paths(value: Any, root: str = "") -> Iterator[str]:
    """The files and folders of data that a config names, alone or below its `data_root`."""
    if hasattr(value, "to_dict"):  # MMEngine's Config is no mapping
        value = value.to_dict()
    if isinstance(value, Mapping):
        root = value.get("data_root") or root
        for key, item in value.items():
            if key == "data_prefix" and isinstance(item, Mapping):
                folders = (folder for folder in item.values() if folder and os.path.normpath(folder) != ".")
                yield from (os.path.join(root, folder) for folder in folders)
            else:
                yield from named_paths(item, root)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from named_paths(item, root)
    elif isinstance(value, str):
        yield from (path for path in (value, os.path.join(root, value)) if os.path.isfile(path))


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    try:
        found = os.stat(os.path.expanduser(path))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def check_file(path: str | os.PathLike, option: str, inputs: Inputs) -> None:
    """ConfigError, in which `option` names it, where `path` is an input, a folder, or may not be written over."""
    if path in inputs:
        _refuse(option, path, "is a file that this command reads, and would be overwritten: choose another location")
    if os.path.isdir(path):
        _refuse(option, path, "is a folder, and one file is written: name a file")
    if os.path.exists(path) and not (os.path.isfile(path) and os.access(path, os.W_OK)):
        _refuse(option, path, "cannot be written over: name another file")


def require_file(path: str | os.PathLike, option: str, inputs: Inputs) -> Path:
    """As `check_file`, and the file can be written."""
    check_file(path, option, inputs)
    _probe(Path(path).parent, option, Path(path))
    return Path(path)


def require_folder(path: str | os.PathLike, option: str, inputs: Inputs) -> Path:
    """A folder, there or yet to be made, in which files can be written, and which is no folder of data.

    Raises:
        ConfigError: it cannot, or is one; `option` names it in the message.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isdir(path):
        _refuse(option, path, "is a file, and a folder is needed: name a folder")
    _probe(path, option, path)
    for location in (path, *Path(os.path.realpath(path)).parents):
        if location in inputs:
            _refuse(option, path, f"lies in {location}, the data that this command reads: choose another folder")
    return path


def _probe(folder: Path, option: str, path: Path) -> None:
    """ConfigError where no file can be made in `folder`, or no folder where there is none yet; none is left there."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long, or none at all
        there = next(location for location in (folder, *folder.absolute().parents) if os.path.lexists(location))
        with tempfile.TemporaryFile(dir=there):
            pass
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        _refuse(option, path, f"cannot be written ({reason}): choose another location")


def _refuse(option: str, path: str | os.PathLike, fault: str) -> NoReturn:
    raise ConfigError(f"{option} {os.fspath(path)!r} {fault}.")


class FileNames:
    """The path of one result file per image, named by the image's id or file.

    An id may be a path, which gives subfolders. Parts that would lead out of the folder, control characters and names
    that are too long are replaced, and a hash is added, as it is to a name that another image has already.

    Args:
        folder: where the files are.
        ending: of the files, such as '.png'.
        by: 'id', 'file' (an image without a file: the id), or 'show': the file where the id is a number.
    """

    def __init__(self, folder: str | os.PathLike, ending: str, by: str = "id") -> None:
        self.folder, self.ending, self.by = Path(folder), ending, by
        self._owners: dict[str, Any] = {}

    def __call__(self, img_id: Any, img_path: str | None) -> Path:
        by_file = img_path and (self.by == "file" or (self.by == "show" and not isinstance(img_id, str)))
        name = safe_name(Path(img_path).stem if by_file else img_id)
        if self._owners.setdefault(name, img_id) != img_id:
            name = f"{name}-{_hash(repr(img_id))}"
        return self.folder / f"{name}{self.ending}"

    def check(self, dataset: Any, option: str, inputs: Inputs) -> None:
        """ConfigError where the folder or the file of one of a dataset's images cannot be written or is an input."""
        require_folder(self.folder, option, inputs)
        for index in range(len(dataset) if hasattr(dataset, "get_data_info") else 0):
            entry = dataset.get_data_info(index)
            check_file(self(entry["img_id"], entry.get("img_path")), option, inputs)


def safe_name(name: Any) -> str:
    """An id as a relative path that cannot lead out of its folder; unchanged where it is one."""
    text = str(name)
    parts = [re.sub(r"[\x00-\x1f\x7f\\\ud800-\udfff]", "_", part) for part in text.split("/")]
    parts = [_cut(part) for part in parts if part not in ("", ".", "..")]
    safe = "/".join(parts if len(text) < 2000 else parts[-1:])
    return safe if safe == text else f"{safe or 'unnamed'}-{_hash(text)}"


def _cut(part: str) -> str:
    return part.encode()[:LONGEST].decode(errors="ignore")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:10]
