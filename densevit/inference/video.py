"""Videos: frames in, pictures out, through OpenCV."""

import math
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from densevit.errors import DataError

# Errors are reported here, in one sentence. FFmpeg reads this variable once, with its first file.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

ENDINGS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"}
USUAL_RATE = 25.0  # frames a second, where a file states none
PROBED = 32  # first frames whose time stamps give the frame rate
LONGEST = 60.0  # seconds that one picture is shown at most; time stamps further apart are taken for broken


def is_video(path: str | os.PathLike) -> bool:
    """Whether the file's name ends like a video's."""
    return Path(path).suffix.lower() in ENDINGS


class VideoReader:
    """The frames of a video file, once through: (H, W, 3) uint8 RGB, turned upright where the file says so.

    `rate` is frames a second, where their number varies that of the fastest, `count` how many frames the file states
    (None where it states none); a file that was cut off holds fewer. `seconds` are the times of the frames so far.

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
        fastest = _fastest(path)
        if 1.1 * self.rate < fastest <= 240:
            self.rate = fastest
        self.seconds = array("d")
        self.count = int(count) if math.isfinite(count) and count >= 1 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self._first
        try:
            while frame is not None:
                self.seconds.append(self._now())
                yield np.ascontiguousarray(frame[..., ::-1])
                there, frame = self._capture.read()
                frame = frame if there else None
        finally:
            self._capture.release()

    def _now(self) -> float:
        """When the frame that was read last is shown: by its time stamp, or one frame on where that does not rise."""
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        last = self.seconds[-1] if self.seconds else -math.inf
        return stamp if last < stamp < math.inf else max(last + 1 / self.rate, 0.0)


def _fastest(path: str | os.PathLike) -> float:
    """Frames a second by the time stamps of the frames that follow each other fastest; 0 where they give none."""
    capture, stamps = cv2.VideoCapture(os.fspath(path)), []
    while len(stamps) < PROBED and capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    capture.release()
    steps = np.diff(stamps)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    return 1 / float(np.percentile(steps, 10)) if len(steps) else 0.0


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
        self._size, self._last = (0, 0), None
        self._written, self._start, self._seconds, self._step = 0, 0.0, 0.0, 0.0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}.") from None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            if error[0] is None:
                self._hold(self._seconds + self._step)
            self._writer.release()

    def write(self, picture: np.ndarray, seconds: float | None = None) -> None:
        """Add one picture; one of another size than the first's is cut, or filled up with white, below and right.

        `seconds` is when it is shown, None one frame after the last: the one before is repeated until then, and a
        picture that comes within one frame of the last is left out.
        """
        if seconds is not None:
            if self._writer is None:
                self._start = seconds
            elif not 0 < seconds - self._start - self._seconds <= LONGEST:
                self._start = seconds - self._seconds - 1 / self.rate
            seconds -= self._start
            self._step, self._seconds = seconds - self._seconds, seconds
            self._hold(seconds)
            if round(seconds * self.rate) < self._written:
                return
        if self._writer is None:
            self._open(picture.shape[:2])
        height, width = (min(a, b) for a, b in zip(self._size, picture.shape[:2], strict=True))
        frame = np.full((*self._size, 3), 255, np.uint8)
        frame[:height, :width] = picture[:height, :width, ::-1]
        self._writer.write(frame)
        self._last, self._written = frame, self._written + 1

    def _hold(self, seconds: float) -> None:
        """Repeat the last picture until so many seconds are filled."""
        while self._last is not None and self._written < round(seconds * self.rate):
            self._writer.write(self._last)
            self._written += 1

    def _open(self, size: tuple[int, int]) -> None:
        self._size = tuple(side + side % 2 for side in size)  # the coding takes even sides alone
        code = cv2.VideoWriter_fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(os.fspath(self.path), code, self.rate, self._size[::-1])
        if not self._writer.isOpened():
            raise DataError(f"{self.path} cannot be written as a video; its name must end in .mp4.")
