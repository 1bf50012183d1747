"""Errors that a user can fix: one sentence that says what is wrong, where and what to do; exit code 2, no traceback.

A bug of ours is any other exception and keeps its traceback.
"""

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
"""Error numbers of a full disk and of files that may not be opened."""
LONGEST_MESSAGE = 4000


def printable(text: Any) -> str:
    """Text from a file, safe to print: control characters, line breaks and invalid characters are escaped, as \\x1b."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(Exception):
    """Something that the user can fix. Its text is the whole message, on one line.

    Attributes:
        of_one_process: raised by one of a training's processes; other errors are raised by all of them.
    """

    of_one_process = False

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
        return printable(text)


class ConfigError(UserError):
    """A config file or option: unknown key or type, wrong value, missing file."""


class DataError(UserError):
    """An image, an annotation file or a data folder."""


class CheckpointError(UserError):
    """A file of weights: unreadable, unsafe, of another model, or not available."""


class TrainingError(UserError):
    """A training whose weights are no longer finite."""


def suggest(name: str, known: Iterable[str]) -> str:
    """' (nearest: ...)' with the known name closest to `name`, or '' where none is close."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def merge_options(where: str, given: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with the given values over them; ConfigError for a key that is not among them."""
    for key in given or ():
        if key not in defaults:
            raise ConfigError(f"{where} has no key {key!r}{suggest(key, defaults)}: it has {', '.join(defaults)}")
        if isinstance(defaults[key], (int, float)) and isinstance(given[key], str):
            raise ConfigError(f"{where}: {key} is {given[key]!r}, and has to be a number; correct it.")
    return {**defaults, **(given or {})}


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Run a tool's body: a UserError, or a disk that takes no more, becomes one line on stderr and exit code 2; Ctrl-C
    exit code 130. What all processes of a machine raise, its first one prints."""
    try:
        yield
    except UserError as error:
        if error.of_one_process or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in DISK:
            raise
        what = f"{error.filename!r} cannot be used" if error.filename else "a file cannot be written"
        print(f"error: {what} ({error.strerror.lower()}): make room there, or choose another folder.", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
