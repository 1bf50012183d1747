"""The files below a folder, listed once: what every format looks at."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from PIL import Image

from densevit.datasets.io.image import ORIENTATION, TURNED, pillow_limit_off
from densevit.datasets.paired_dataset import IMAGES
from densevit.errors import DataError
from densevit.plain_data import decode_text, read_lines

IMAGE_SUFFIXES = (*IMAGES, ".jpe", ".gif", ".ppm", ".pgm", ".jp2", ".avif", ".mpo")
CLASS_FILE = re.compile(
    r"(classes|labels|labelmap|class_names)\.txt|classes\.json|obj\.names|_darknet\.labels", re.IGNORECASE
)
"""What files are called that name the classes."""
MAX_LABEL_BYTES = 64 << 20
"""Size of a label file of one image; a larger one is something else."""


class FileTree:
    """The files below a folder, without hidden ones. Links are followed, but never into a folder that they lie in.

    `files` holds the names in each folder, which is a path below `root` with slashes, '' for the root itself.

    Raises:
        DataError: there is no such folder, or it cannot be listed.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        if not os.path.isdir(self.root):
            what = "is a file" if os.path.exists(self.root) else "does not exist"
            raise DataError(f"{self.root} {what}: give the folder that holds the images and their labels.")
        self.files: dict[str, list[str]] = {}
        try:
            self._list("", ())
        except OSError as error:
            raise DataError(f"{error.filename} cannot be listed ({error.strerror}): correct its permissions.") from None

    def _list(self, folder: str, above: tuple[tuple[int, int], ...]) -> None:
        status = os.stat(self.path(folder))
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link back to a folder that it lies in
            return
        names, inner = [], []
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                (inner if entry.is_dir() else names if entry.is_file() else []).append(entry.name)
        self.files[folder] = sorted(names)
        for name in sorted(inner):
            self._list(f"{folder}/{name}" if folder else name, (*above, here))

    def path(self, below: str) -> str:
        """The absolute path of a path below the root."""
        return os.path.join(self.root, below) if below else self.root

    def below(self, folder: str = "", suffixes: Iterable[str] = IMAGE_SUFFIXES) -> Iterator[str]:
        """Paths of the files in `folder` and its folders that end so, in any case of letters."""
        suffixes = tuple(suffixes)
        for location, names in self.files.items():
            if not folder or location == folder or location.startswith(f"{folder}/"):
                for name in names:
                    if name.lower().endswith(suffixes):
                        yield f"{location}/{name}" if location else name

    def folders(self, *names: str) -> list[str]:
        """The folders with one of these names (lower case), in any case of letters."""
        return [folder for folder in self.files if folder.rpartition("/")[2].lower() in names]

    def find(self, path: str) -> str | None:
        """The file of a path that another program wrote: in any case of letters, with slashes of Windows."""
        path = os.path.normpath(path.replace("\\", "/")).replace("\\", "/")
        return self._by_path.get(path) or self._by_lower_path.get(path.lower())

    def image_named(self, path: str) -> str | None:
        """The image of a path, or one of that name with another suffix."""
        found = self.find(path)
        if found and found.lower().endswith(IMAGE_SUFFIXES):
            return found
        path = os.path.normpath(path.replace("\\", "/"))
        # 'a.b' may be the name of a.b.jpg, or stand for a.jpg
        return self._by_stem.get(path.lower()) or self._by_stem.get(os.path.splitext(path)[0].lower())

    def image_anywhere(self, name: str) -> str | None:
        """The image of a file name without folders, if there is one alone."""
        found = self._by_name.get(name.lower(), [])
        return found[0] if len(found) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.below():
            found.setdefault(path.rpartition("/")[2].lower(), []).append(path)
        return found

    @cached_property
    def _by_path(self) -> dict[str, str]:
        return {path: path for path in self.below(suffixes=("",))}

    @cached_property
    def _by_lower_path(self) -> dict[str, str]:
        return {path.lower(): path for path in self._by_path}

    @cached_property
    def _by_stem(self) -> dict[str, str]:
        return {os.path.splitext(path)[0].lower(): path for path in self.below()}


def image_sizes(paths: list[str]) -> list[tuple[int, int] | None]:
    """(width, height) of each image as it is displayed, by its header alone; None where it cannot be read."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_image_size, paths))


def _image_size(path: str) -> tuple[int, int] | None:
    try:
        with pillow_limit_off, Image.open(path) as image:
            width, height = image.size
            turned = False
            with contextlib.suppress(Exception):  # unreadable EXIF is none
                # a PNG without EXIF would be decoded as a whole
                turned = (image.format != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION) in TURNED
    except Exception:  # each format has exceptions of its own
        return None
    return (height, width) if turned else (width, height)


def read_label_bytes(path: str) -> bytes:
    """A label file of one image.

    Raises:
        DataError: it cannot be read, or is too large to be one.
    """
    try:
        if os.path.getsize(path) > MAX_LABEL_BYTES:
            raise DataError(f"{path} has more than {MAX_LABEL_BYTES >> 20} MB: it is no label file of one image.")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): correct its permissions.") from None


def read_label_text(path: str) -> str:
    """A label file of one image as `plain_data` decodes text; errors as of `read_label_bytes`."""
    return decode_text(read_label_bytes(path))


def find_class_file(tree: FileTree) -> str | None:
    """The file that names the classes, in the folder or not far below."""
    found = (path for path in tree.below(suffixes=[""]) if CLASS_FILE.fullmatch(path.rpartition("/")[2]))
    return min(found, key=lambda path: (path.count("/"), path), default=None)


def order_classes(tree: FileTree, names: set[str]) -> list[str]:
    """Names in the order of the file that names the classes, if it has all of them, or else by alphabet."""
    path = find_class_file(tree)
    if path and path.lower().endswith(".txt"):
        lines = read_lines(tree.path(path))
        listed = dict.fromkeys(line.split(":")[0] if path.lower().endswith("labelmap.txt") else line for line in lines)
        listed = [name for name in listed if name in names or name.strip("_").lower() not in ("background", "ignore")]
        if names <= set(listed):
            return listed
    return sorted(names)
