"""Text files that people write: lists of names, class files."""

import codecs
import io


def text_of(path: str) -> str:
    """A text file of UTF-8, with or without a byte order mark, of UTF-16 with one, or of Latin-1.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lines_of(path: str) -> list[str]:
    """The lines of a text file that say something, without blanks around them; '# ' begins a comment."""
    lines = (line.strip() for line in io.StringIO(text_of(path), newline=None))
    return [line for line in lines if line and line != "#" and not line.startswith(("# ", "#\t"))]
