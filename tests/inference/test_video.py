"""Videos are read whole and written so that they can be played."""

import cv2
import numpy as np
import pytest

from densevit.errors import DataError
from densevit.inference.video import VideoReader, VideoWriter, is_video


def frames(count, size=(48, 64)):
    """A red square that moves over blue ground, RGB."""
    made = []
    for n in range(count):
        frame = np.full((*size, 3), (20, 30, 200), np.uint8)
        frame[10:26, 2 * n : 2 * n + 16] = (220, 30, 30)
        made.append(frame)
    return made


def write(path, pictures, rate=12.0):
    with VideoWriter(path, rate) as writer:
        for picture in pictures:
            writer.write(picture)


def test_what_is_written_is_read_back_in_order_and_color(tmp_path):
    made = frames(20)
    write(tmp_path / "new" / "clip.mp4", made)
    reader = VideoReader(tmp_path / "new" / "clip.mp4")
    assert reader.rate == 12 and reader.count == 20
    read = list(reader)
    assert len(read) == 20
    for a, b in zip(made, read, strict=True):
        assert b.shape == a.shape and b.dtype == np.uint8 and np.abs(a.astype(int) - b).mean() < 12


@pytest.mark.parametrize(("ending", "code"), [("avi", "MJPG"), ("mkv", "mp4v"), ("mov", "mp4v"), ("webm", "VP80")])
def test_usual_formats_are_read(tmp_path, ending, code):
    path = tmp_path / f"clip.{ending}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (64, 48))
    for frame in frames(9):
        writer.write(frame[..., ::-1])
    writer.release()
    assert is_video(path) and len(list(VideoReader(path))) == 9


def test_names_tell_videos_from_images():
    assert is_video("a/b.MP4") and is_video("b.mkv") and not is_video("mp4") and not is_video("a.mp4.jpg")


@pytest.mark.parametrize("size", [(45, 63), (46, 63), (1, 1)])
def test_odd_sides_are_filled_up(tmp_path, size):
    write(tmp_path / "clip.mp4", [np.full((*size, 3), 90, np.uint8)] * 3)
    (first, *others) = VideoReader(tmp_path / "clip.mp4")
    assert first.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3) and len(others) == 2


def test_pictures_of_other_sizes_are_shown_in_the_size_of_the_first(tmp_path):
    sizes = [(48, 64), (60, 64), (30, 40)]
    write(tmp_path / "clip.mp4", [np.full((*size, 3), 40, np.uint8) for size in sizes])
    read = list(VideoReader(tmp_path / "clip.mp4"))
    assert [frame.shape for frame in read] == [(48, 64, 3)] * 3
    assert read[1].mean() < 60 and read[2][:25, :35].mean() < 80 and read[2][36:, 48:].mean() > 200


@pytest.mark.parametrize("content", [b"", b"no video at all", "cut", "head"])
def test_what_is_no_video_is_refused_with_one_sentence(tmp_path, capfd, content):
    path = tmp_path / "bad.mp4"
    if isinstance(content, str):
        write(path, frames(5))
        data = path.read_bytes()
        content = data[: len(data) // 2] if content == "cut" else data[:20]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.mp4 cannot be read as a video"):
        VideoReader(path)
    assert capfd.readouterr().err == ""


def test_a_video_that_is_left_by_an_error_can_be_played(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for n, frame in enumerate(frames(20)):
            if n == 7:
                raise KeyboardInterrupt
            writer.write(frame)
    assert len(list(VideoReader(tmp_path / "clip.mp4"))) == 7


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/clip\.mp4 cannot be written"):
        VideoWriter(tmp_path / "file" / "clip.mp4", 10)
    with pytest.raises(DataError, match="must end in"):
        write(tmp_path / "clip.unknown", frames(1))


def test_pictures_stand_where_their_time_is(tmp_path):
    times = 5.0 + np.cumsum([0.0] + [0.1] * 8 + [0.5] * 7)
    made = [np.full((48, 64, 3), 10 * n, np.uint8) for n in range(len(times))]
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for picture, seconds in zip(made, times, strict=True):
            writer.write(picture, seconds)
    reader = VideoReader(tmp_path / "a.mp4")
    shown = [round(float(frame.mean()) / 10) for frame in reader]
    assert len(shown) == 48  # 4.3 s and the 0.5 s of the last
    for n, seconds in enumerate(times - 5.0):
        assert shown[round(10 * seconds)] == n
    assert reader.seconds.tolist() == pytest.approx([n / 10 for n in range(48)], abs=0.002)


def test_pictures_that_come_too_fast_are_left_out_and_torn_time_stamps_do_not_fill_the_disk(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for seconds in (0, 0.01, 0.02, 0.1, 0.2, 1e9, 1e9 + 0.1, 3.0, 3.1, 3.2):
            writer.write(np.zeros((48, 64, 3), np.uint8), seconds)
    assert len(list(VideoReader(tmp_path / "a.mp4"))) == 8


def test_frames_without_rising_time_stamps_follow_each_other_at_the_rate(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", frames(6), rate=4)
    reader = VideoReader(tmp_path / "a.mp4")
    reader._capture = Silent(reader._capture)
    assert len(list(reader)) == 6
    assert reader.seconds.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25])


class Silent:
    """A capture whose time stamps are not known."""

    def __init__(self, capture):
        self.read, self.release = capture.read, capture.release

    def get(self, _):
        return 0.0


def test_a_variable_rate_is_distinguished_from_a_constant_one(shared):
    reader = VideoReader(shared / "cases/24_variable_frame_rate/vfr.mp4")
    assert reader.rate == pytest.approx(12.5)  # the stated 4.2 would lose most of the fast frames
    assert len(list(reader)) == 17
    assert reader.seconds.tolist()[8:12] == pytest.approx([0.8, 1.32, 1.8, 2.32])
