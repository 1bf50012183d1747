"""The reader of files of weights: what it takes, what it refuses, and that a refused file ran nothing."""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from densevit.checkpoints.reading import read_file
from densevit.errors import CheckpointError


class Asking:
    """Unpickled, it would call `function`."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refused(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "asking",
    [
        Asking(getattr, HistoryBuffer, "__init__"),
        Asking(getattr, np.ndarray, "tofile"),
        Asking(eval, "1"),
        Asking(__import__, "antigravity"),
    ],
)
def test_what_is_let_through_for_statistics_opens_no_door(tmp_path, asking):
    torch.save({"x": asking}, tmp_path / "evil.pth")
    assert "refused" in refused(tmp_path / "evil.pth")


def test_mmengines_containers_are_read(tmp_path):
    buffer = HistoryBuffer()
    buffer.update(2.0)
    content = {
        "meta": {"scores": np.float64(0.5), "palette": np.arange(3, dtype=np.uint8), "path": Path("/a/b")},
        "message_hub": {"loss": buffer},
        "args": argparse.Namespace(lr=0.1),
        "state_dict": {"a": torch.ones(2)},
    }
    torch.save(content, tmp_path / "file.pth")
    found = read_file(tmp_path / "file.pth")
    assert found["meta"]["scores"] == 0.5 and found["meta"]["palette"].tolist() == [0, 1, 2]
    assert str(found["meta"]["path"]) == "/a/b" and found["args"].lr == 0.1
    assert found["message_hub"]["loss"].statistics("mean") == 2.0


def test_arrays_written_with_numpy_1_are_read(tmp_path):
    """numpy 2 renamed numpy.core to numpy._core."""
    raw = pickle.dumps({"score": np.float64(0.25), "array": np.arange(2.0)}, protocol=2)
    assert b"numpy._core.multiarray" in raw
    (tmp_path / "old.pkl").write_bytes(raw.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    torch.save({}, tmp_path / "new.pth")  # a legacy torch file is a few pickles in a row; the reader takes zips
    import zipfile

    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            old.writestr(name, (tmp_path / "old.pkl").read_bytes() if name.endswith("data.pkl") else content)
    found = read_file(tmp_path / "old.pth")
    assert found["score"] == 0.25 and found["array"].tolist() == [0.0, 1.0]


def test_safetensors_and_every_half_of_a_file(tmp_path):
    save_file({"a": torch.arange(4.0)}, str(tmp_path / "a.safetensors"))
    assert torch.equal(read_file(tmp_path / "a.safetensors")["a"], torch.arange(4.0))
    torch.save({"a": torch.ones(1000)}, tmp_path / "b.pth")
    torch.save({"a": torch.ones(1000)}, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth", "c.pth"):
        content = (tmp_path / name).read_bytes()
        torn = tmp_path / f"torn_{name}"
        for length in (1, len(content) // 3, len(content) - 7):
            torn.write_bytes(content[:length])
            assert "torn or no file of weights" in refused(torn)
        torn.write_bytes(b"")
        assert "empty (0 bytes)" in refused(torn)


def test_no_file_no_weights(tmp_path):
    assert "no such file" in refused(tmp_path / "none.pth")
    assert "no such file" in refused(tmp_path)
    (tmp_path / "text.pth").write_text("<html>404</html>")
    assert "torn or no file of weights" in refused(tmp_path / "text.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    assert "holds a list" in refused(tmp_path / "list.pth")


def test_checksums_find_a_damaged_byte(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 5] ^= 255
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        read_file(path, check_sums=True)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_of_arrays_is_read_as_tensors(tmp_path, protocol):
    """As detectron2 publishes its models."""
    arrays = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.array(3), "big": np.arange(3, dtype=">f4")}
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True, "number": np.float64(0.5)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_file(tmp_path / "a.pkl")
    assert found["__author__"] == "someone" and found["matching_heuristics"] is True and found["number"] == 0.5
    assert {k: v.tolist() for k, v in found["model"].items()} == {k: v.tolist() for k, v in arrays.items()}
    found["model"]["a"] += 1  # its memory is its own


@pytest.mark.parametrize(
    "asking",
    [
        Asking(eval, "1"),
        Asking(getattr, np.ndarray, "tofile"),
        Asking(np.memmap, "x"),
        Asking(np.fromfile, "x"),
        Asking(torch._utils._rebuild_tensor, 1),
        Asking(Path, "x"),
        np.array([print], dtype=object),
    ],
)
def test_a_pickle_of_anything_but_arrays_is_refused(tmp_path, asking):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"x": asking}}))
    assert "refused" in refused(tmp_path / "a.pkl")


def test_torchs_own_files_may_be_called_pkl(tmp_path):
    for zipped in (True, False):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pkl", _use_new_zipfile_serialization=zipped)
        assert read_file(tmp_path / "a.pkl")["a"].tolist() == [1.0, 1.0]
