"""Files of pretrained weights: fetched once, cached, checked by their checksum.

A checksum is stated by `sha256`, `md5` or the URL itself (`-0123abcd.pth`). The releases of whai362/PVT publish none:
for such a URL the sum is written down at the first fetch (beside the file, as NAME.sha256) and checked at every use
after it: this finds a file that was damaged or replaced later, not one that was wrong from the start.
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from densevit.checkpoints.reading import read_file
from densevit.checkpoints.shipped import near, weights_path
from densevit.checkpoints.writing import atomic_write
from densevit.errors import CheckpointError, printable

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without an answer after which the network counts as absent."""
HASHED = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
DOWNLOAD_HINTS = (
    "give a file of weights with `--pretrained FILE`, or `--pretrained none` to train from random weights on purpose"
)


def cache_folder() -> Path:
    """Where fetched weights are kept: $DENSEVIT_CACHE, or ~/.cache/densevit."""
    return Path(os.environ.get("DENSEVIT_CACHE") or "~/.cache/densevit").expanduser()


def cached_path(url: str) -> Path:
    """The location of a URL in the cache: its host and path as folders, so that equal file names do not meet."""
    address = urllib.parse.urlsplit(url)
    steps = [step for step in f"{address.netloc}/{address.path}".split("/") if step not in ("", ".", "..")]
    return cache_folder().joinpath(*(step.replace(":", "_") for step in steps))


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    return _digest(path, "sha256")


def _digest(path: str | os.PathLike, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _check(path: Path, init_cfg: Mapping[str, Any]) -> tuple[str, str]:
    """A file's SHA-256, and what is wrong with it: another checksum than the config states (or the URL: `-0123abcd.pth`
    has the first digits of its SHA-256, as OpenMMLab, timm and torch.hub name files); '' where it fits."""
    found = {"sha256": file_sha256(path)}
    named = HASHED.search(str(init_cfg["checkpoint"])) if "://" in str(init_cfg["checkpoint"]) else None
    stated = {"sha256": init_cfg.get("sha256"), "md5": init_cfg.get("md5")}
    if named and not any(stated.values()) and not named[1].isdigit():
        stated["sha256"] = named[1]
    for kind, wanted in stated.items():
        digits = found.get(kind) or (_digest(path, kind) if wanted else "")
        if wanted and not digits.startswith(wanted.lower()):
            return found["sha256"], f"{kind.upper().replace('SHA', 'SHA-')} {digits}, not {wanted}"
    return found["sha256"], ""


def _looks_like_weights(path: Path) -> bool:
    """By the first bytes: torch's zip, a pickle, or safetensors; a login page or a message is none of them."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[:1] == b"\x80" or path.suffix == ".pkl" or start[:4] == b"PK\3\4" or start[8:] == b"{"


def resolve(init_cfg: Mapping[str, Any]) -> Path:
    """The local file that `init_cfg` names: a path as it is, that of shipped weights, a URL from the cache or, once,
    from the network.

    Args:
        init_cfg: `checkpoint` (path, name of shipped weights, or http(s) URL) and, optionally, `sha256` or `md5`: the
            checksum or its first digits.

    Raises:
        CheckpointError: no such file; neither a cached file nor a network; or a file of another checksum.
    """
    checkpoint = str(init_cfg["checkpoint"])
    if not checkpoint.startswith(("http://", "https://")):
        path = weights_path(checkpoint.removeprefix("file://"))
        if not path.is_file():
            raise CheckpointError(f"there is no file of pretrained weights {path}{near(path)}: {DOWNLOAD_HINTS}.")
        if (init_cfg.get("sha256") or init_cfg.get("md5")) and (wrong := _check(path, init_cfg)[1]):
            raise CheckpointError(f"{path} has {wrong}: it is another file than the config means.")
        return path
    path = cached_path(checkpoint)
    noted = path.with_name(path.name + ".sha256")
    if path.is_file():
        found, wrong = _check(path, init_cfg)
        expected = noted.read_text().strip().lower() if noted.is_file() else ""
        if not wrong and expected not in ("", found) and not init_cfg.get("sha256"):
            wrong = f"SHA-256 {found}, not {expected}"
        if not wrong and not _looks_like_weights(path):
            wrong = "something else in it than weights"
        if not wrong:
            if not expected:
                _note(noted, found)
            return path
        print_log(f"{path} has {wrong}: it is fetched again", "current")
    _note(noted, _fetch(checkpoint, path, init_cfg))
    return path


def _fetch(url: str, path: Path, init_cfg: Mapping[str, Any]) -> str:
    """Download beside `path`, check, and move over it. Returns the SHA-256."""
    print_log(f"fetching {printable(url)} to {path}", "current")
    try:
        with atomic_write(path) as partial:
            _download(url, partial)
            found, wrong = _check(partial, init_cfg)
            if wrong:
                raise CheckpointError(
                    f"{url} gave a file of {wrong}: it was thrown away; check the URL, or {DOWNLOAD_HINTS}."
                )
            try:
                read_file(partial)
            except CheckpointError as error:
                reason = str(error).removeprefix(f"{partial} ")
                raise CheckpointError(
                    f"what {url} gave {reason} It was thrown away (a network's login page?): check the connection and "
                    f"the URL, or {DOWNLOAD_HINTS}."
                ) from error
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{url} answers {error.code} ({error.reason}) and no file is cached: {DOWNLOAD_HINTS}."
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        if _is_local(error):
            raise CheckpointError(
                f"{path} cannot be written ({error}): set DENSEVIT_CACHE to a folder that can."
            ) from error
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"the pretrained weights {url} are neither on this machine (no file {path}) nor to be had, for want of a "
            f"network ({reason}): {DOWNLOAD_HINTS}."
        ) from error
    return found


def _download(url: str, path: Path) -> None:
    """Raises OSError and HTTPException."""
    size, request = 0, urllib.request.Request(url, headers={"User-Agent": "densevit"})
    with open(path, "wb") as file, urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        announced = str(answer.headers.get("Content-Length", ""))
        while piece := answer.read(CHUNK):
            size += file.write(piece)
    if announced.isdigit() and size != int(announced):
        raise ConnectionError(f"the connection broke after {size:,} of {int(announced):,} bytes")


def _note(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text + "\n")


def _is_local(error: Exception) -> bool:
    """Whether it was our disk and not the network that failed."""
    return isinstance(error, OSError) and error.filename is not None and not isinstance(error, urllib.error.URLError)
