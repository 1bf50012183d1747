"""Pretrained backbones: fetched once, cached, checked by SHA-256, loaded with a receipt.

In a config: `init_cfg=dict(type='Pretrained', checkpoint=URL or file, sha256=..., source=...)` on any part; of a file
that holds a whole model a backbone takes the backbone, another part the one that `prefix` names. In
densevit's scope this stands in for MMEngine's initializer of that name, which loads what fits, says nothing of the
rest, and lets a pickle run.

The releases of whai362/PVT publish no checksums. For a URL without `sha256` the sum is therefore written down at the
first fetch (beside the file, as NAME.sha256) and checked at every use after it: this finds a file that was damaged or
replaced later, not one that was wrong from the start.
"""

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from densevit.checkpoints.loading import load_weights, state_of
from densevit.checkpoints.reading import read_file
from densevit.checkpoints.shipped import near, weights_path
from densevit.errors import CheckpointError
from densevit.registry import WEIGHT_INITIALIZERS

CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without an answer after which the network counts as absent."""
WAYS_ON = (
    "give a file of weights with `--pretrained FILE`, or `--pretrained none` to train from random weights on purpose"
)


def cache_folder() -> Path:
    """Where fetched weights are kept: $DENSEVIT_CACHE, or ~/.cache/densevit."""
    return Path(os.environ.get("DENSEVIT_CACHE") or "~/.cache/densevit").expanduser()


def cached_path(url: str) -> Path:
    """The place of a URL in the cache: its host and path as folders, so that equal file names do not meet."""
    address = urllib.parse.urlsplit(url)
    steps = [step for step in f"{address.netloc}/{address.path}".split("/") if step not in ("", ".", "..")]
    return cache_folder().joinpath(*(step.replace(":", "_") for step in steps))


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def resolve(init_cfg: Mapping[str, Any]) -> Path:
    """The local file that `init_cfg` names: a path as it is, that of shipped weights, a URL from the cache or, once,
    from the network.

    Args:
        init_cfg: `checkpoint` (path, name of shipped weights, or http(s) URL) and, optionally, `sha256`.

    Raises:
        CheckpointError: no such file; neither a cached file nor a network; or a file of another checksum.
    """
    checkpoint, wanted = str(init_cfg["checkpoint"]), init_cfg.get("sha256")
    if not checkpoint.startswith(("http://", "https://")):
        path = weights_path(checkpoint.removeprefix("file://"))
        if not path.is_file():
            raise CheckpointError(f"there is no file of pretrained weights {path}{near(path)}: {WAYS_ON}.")
        if wanted and (found := file_sha256(path)) != wanted.lower():
            raise CheckpointError(
                f"{path} has SHA-256 {found}, not {wanted}: it is another file than the config means."
            )
        return path
    path = cached_path(checkpoint)
    noted = path.with_name(path.name + ".sha256")
    if path.is_file():
        expected = (wanted or (noted.read_text().strip() if noted.is_file() else "")).lower()
        found = file_sha256(path)
        if not expected:
            _write(noted, found)
        if expected in ("", found):
            return path
        print_log(f"{path} has SHA-256 {found}, not {expected}: it is fetched again", "current")
    found = _fetch(checkpoint, path, wanted)
    _write(noted, found)
    return path


def _fetch(url: str, path: Path, wanted: str | None) -> str:
    """Download beside `path`, check, and move over it. Returns the SHA-256."""
    print_log(f"fetching {url} to {path}", "current")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as file:
            request = urllib.request.Request(url, headers={"User-Agent": "densevit"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                announced = answer.headers.get("Content-Length")
                while piece := answer.read(CHUNK):
                    digest.update(piece)
                    size += file.write(piece)
        if announced is not None and size != int(announced):
            raise ConnectionError(f"the connection broke after {size:,} of {int(announced):,} bytes")
        found = digest.hexdigest()
        if wanted and found != wanted.lower():
            raise CheckpointError(
                f"{url} gave a file of SHA-256 {found}, not {wanted}: it was thrown away; check the URL, or {WAYS_ON}."
            )
        os.replace(partial, path)
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{url} answers {error.code} ({error.reason}) and no file is cached: {WAYS_ON}."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if _is_local(error):
            raise CheckpointError(
                f"{path} cannot be written ({error}): set DENSEVIT_CACHE to a folder that can."
            ) from error
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"the pretrained weights {url} are neither on this machine (no file {path}) nor to be had, for want of a "
            f"network ({reason}): {WAYS_ON}."
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
    return found


def _is_local(error: Exception) -> bool:
    """Whether it was our disk and not the network that failed."""
    return isinstance(error, OSError) and error.filename is not None and not isinstance(error, urllib.error.URLError)


def _write(path: Path, text: str) -> None:
    """Write beside the name and move over it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text + "\n")
    os.replace(partial, path)


@WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class Pretrained:
    """`init_cfg` of a part whose weights come from a file. Loads strictly and logs the receipt.

    Args:
        checkpoint: a file, the name of weights that come with densevit, or an http(s) URL that is fetched once.
        sha256: checksum that the file must have; None: see the module's docstring.
        source: whose names the file has; None recognises them.
        prefix: of a whole model's file, which part goes here: 'backbone', 'neck', 'head.boxes'. A part whose own names
            do not begin so takes a file without that prefix whole.
    """

    def __init__(self, checkpoint: str, sha256: str | None = None, source: str | None = None, prefix: str = "backbone"):
        self.init_cfg = dict(checkpoint=checkpoint, sha256=sha256)
        self.source, self.prefix = source, prefix.rstrip(".") + "."

    def __call__(self, module: nn.Module) -> None:
        path = resolve(self.init_cfg)
        state, file = state_of(read_file(path), str(path)), str(path)
        whole = any(key.startswith(self.prefix) for key in module.state_dict())
        part = {key.removeprefix(self.prefix): value for key, value in state.items() if key.startswith(self.prefix)}
        if part and not whole:
            state, file = part, f"{path}, {self.prefix.rstrip('.')}"
        receipt = load_weights(module, state, self.source, file=file)
        print_log(f"pretrained: {receipt}", "current")
