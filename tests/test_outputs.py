"""Results are written where they can be, never over what the same command reads, and never outside their folder."""

import errno
import os

import pytest

from densevit.errors import ConfigError, exit_on_user_error
from densevit.outputs import FileNames, check_file, files_of, inputs_of, require_file, require_folder, safe_name


@pytest.mark.parametrize("way", ["itself", "spelled", "symlink", "hard link", "symlinked folder"])
def test_an_output_that_is_an_input_is_refused_however_it_is_reached(tmp_path, way):
    source = tmp_path / "data" / "a.json"
    source.parent.mkdir()
    source.write_text("{}")
    out = tmp_path / "out.json"
    if way == "itself":
        out = source
    elif way == "spelled":
        out = source.parent / ".." / "data" / "a.json"
    elif way == "symlink":
        out.symlink_to(source)
    elif way == "hard link":
        os.link(source, out)
    else:
        (tmp_path / "link").symlink_to(source.parent)
        out = tmp_path / "link" / "a.json"
    with pytest.raises(ConfigError, match="reads, and would be overwritten"):
        require_file(out, "--out", files_of(source))
    assert source.read_text() == "{}"


def test_an_existing_file_that_is_no_input_may_be_written_over(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "old.json").write_text("[]")
    assert require_file(tmp_path / "old.json", "--out", files_of(tmp_path / "a.json")) == tmp_path / "old.json"


def test_the_inputs_of_a_config_are_its_files_its_folders_of_data_and_what_its_datasets_name(tmp_path):
    for name in ("data/ann.json", "data/img/a.png", "weights.pth", "config.py", "elsewhere/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    class Images:
        def __len__(self):
            return 1

        def get_data_info(self, index):
            return dict(img_id=1, img_path=str(tmp_path / "elsewhere/b.png"))

    dataset = dict(data_root=str(tmp_path / "data"), ann_file="ann.json", data_prefix=dict(img="img/"))
    config = dict(load_from=str(tmp_path / "weights.pth"), train_dataloader=dict(dataset=dict(datasets=[dataset])))
    inputs = inputs_of(config, Images(), files=[tmp_path / "config.py"])
    for name in ("data/ann.json", "weights.pth", "config.py", "elsewhere/b.png"):
        with pytest.raises(ConfigError, match="would be overwritten"):
            check_file(tmp_path / name, "--out", inputs)
    for name in ("data/img", "data/img/below/it"):
        with pytest.raises(ConfigError, match="the data that this command reads"):
            require_folder(tmp_path / name, "--show-dir", inputs)
    assert not (tmp_path / "data/img/below").exists()
    require_folder(tmp_path / "data/results", "--show-dir", inputs)
    with pytest.raises(ConfigError, match=r"b\.png' is a file that this command reads"):
        FileNames(tmp_path / "elsewhere", ".png", by="file").check(Images(), "--out", inputs)


def test_places_that_cannot_be_written_are_one_sentence_and_leave_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    none = files_of()
    for location in ("/proc/nowhere/w", tmp_path / "file", tmp_path / "file/below", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(ConfigError):
            require_folder(location, "--work-dir", none)
    for location in ("/proc/nowhere", tmp_path / "folder", tmp_path / "file/below", "/dev/null", "a\0b"):
        with pytest.raises(ConfigError):
            require_file(location, "--out", none)
    require_folder(tmp_path / "new/one", "--work-dir", none)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "a/../../b",
    "a\0b",
    "a\nb",
    "\\..\\x",
    "..",
    "",
    "x" * 5000,
    "y/" * 3000,
    "é" * 300,
]


def test_names_of_ids_stay_within_their_folder_and_apart(tmp_path):
    names = FileNames(tmp_path, ".png")
    paths = [names(img_id, None) for img_id in [*HOSTILE, "x" * 5001, "_"]]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert path.resolve().is_relative_to(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert [safe_name(name) for name in (5, "a/b c.d", "Ünï")] == ["5", "a/b c.d", "Ünï"]


def test_images_of_one_name_have_files_of_their_own(tmp_path):
    names = FileNames(tmp_path, ".jpg", by="show")
    paths = [names(1, "/a/0.jpg"), names(2, "/b/0.jpg"), names(1, "/a/0.jpg"), names("a/0", "/a/0.jpg")]
    assert paths[0] == paths[2] == tmp_path / "0.jpg" and paths[1] != paths[0] and paths[3] == tmp_path / "a/0.jpg"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EACCES])
def test_a_full_disk_is_one_sentence_and_exit_code_2(code, capsys):
    with pytest.raises(SystemExit) as ended, exit_on_user_error():
        raise OSError(code, os.strerror(code), "/x/y")
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: '/x/y' cannot be used")
    with pytest.raises(OSError), exit_on_user_error():
        raise OSError(errno.ECONNRESET, "a fault of another kind")
