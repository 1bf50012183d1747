"""Videos: frames in, pictures out, through OpenCV."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from densevit.errors import DataError

# What is wrong with a file is said here, in one sentence. FFmpeg looks at this once, at its first file.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

ENDINGS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"}
USUAL_RATE = 25.0  # frames a second, where a file states none


def is_video(path: str | os.PathLike) -> bool:
    """Whether the file's name ends like a video's."""
    return Path(path).suffix.lower() in ENDINGS


class VideoReader:
    """The frames of a video file, once through: (H, W, 3) uint8 RGB, turned upright where the file says so.

    `rate` is frames a second, `count` how many frames the file states (None where it states none); a file that was cut
    off holds fewer.

    Raises:
        DataError: the file is no video that can be read, or has no frame.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        level = cv2.utils.logging.setLogLevel(0)
        try:
            self._capture = cv2.VideoCapture(os.fspath(path))
            there, self._first = self._capture.read() if self._capture.isOpened() else (False, None)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not there:
            self._capture.release()
            raise DataError(
                f"{path} cannot be read as a video: it is empty or damaged, or packed in a way that this OpenCV does "
                "not know; write it anew, for instance with ffmpeg as .mp4."
            )
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else USUAL_RATE
        self.count = int(count) if math.isfinite(count) and count >= 1 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self._first
        try:
            while frame is not None:
                yield np.ascontiguousarray(frame[..., ::-1])
                there, frame = self._capture.read()
                frame = frame if there else None
        finally:
            self._capture.release()


class VideoWriter:
    """An MPEG-4 video of pictures (H, W, 3) uint8 RGB, all shown in the size of the first.

    A context: the file can be played once it is left, for whatever reason.

    Args:
        path: the file to write, ending in .mp4; its folder is made.
        rate: frames a second.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, rate: float) -> None:
        self.path, self.rate = Path(path), rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}.") from None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, picture: np.ndarray) -> None:
        """Add one picture; one of another size than the first's is cut, or filled up with white, below and right."""
        if self._writer is None:
            self._open(picture.shape[:2])
        height, width = (min(a, b) for a, b in zip(self._size, picture.shape[:2], strict=True))
        frame = np.full((*self._size, 3), 255, np.uint8)
        frame[:height, :width] = picture[:height, :width, ::-1]
        self._writer.write(frame)

    def _open(self, size: tuple[int, int]) -> None:
        self._size = tuple(side + side % 2 for side in size)  # the coding takes even sides alone
        code = cv2.VideoWriter_fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(os.fspath(self.path), code, self.rate, self._size[::-1])
        if not self._writer.isOpened():
            raise DataError(f"{self.path} cannot be written as a video; its name must end in .mp4.")
