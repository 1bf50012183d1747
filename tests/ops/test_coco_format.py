"""One rule of what a COCO file may hold, before C code sees it: numbers, ids, flags, polygons, run lengths, JSON."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from densevit.errors import DataError
from densevit.ops.coco_format import flag, identity, is_box, is_number, mask_problem, read_json, whole

SIZE = [96, 128]
TRIANGLE = [1, 1, 9, 1, 9, 9]
FAR = 10**400


def test_whole_numbers_ids_and_flags_are_understood_as_floats_and_refused_as_text_or_booleans():
    assert [whole(x) for x in (3, 3.0, np.int64(3), -0.0)] == [3, 3, 3, 0]
    assert [identity(x) for x in (1, 1.0, "a", "1")] == [1, 1, "a", "1"]
    for value in (True, None, "", 1.5, math.nan, math.inf, [1], {}, b"1"):
        assert identity(value) is None
    assert [flag(x) for x in (None, 0, 1, 1.0, True, False)] == [0, 0, 1, 1, 1, 0]
    assert [flag(x) for x in ("0", "1", 2, [], math.nan)] == [None] * 5


def test_numbers_have_a_range():
    assert is_number(0) and is_number(-1e6) and is_number(np.float32(5)) and is_box([0, 1.5, 2, 3])
    for value in (math.nan, math.inf, 1e300, FAR, -FAR, "5", True, None, [5]):
        assert not is_number(value) and not is_box([0, 0, value, 5])
    assert not is_box([1, 2, 3]) and not is_box("1234") and not is_box(None)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([TRIANGLE, [1, 2, math.nan, 4, 5, 6]], "NaN"),
        ([[-math.inf, 2, 3, 4, 5, 6]], "infinity"),
        ([[-1e300, 0, 1e300, 10, 5, 1e300]], "beyond 1000000"),
        ([[FAR, 0, 3, 10, 5, 7]], "beyond 1000000"),
        ([[1, 1], [9, 1], [9, 9]], "written as points"),
        ([[[1, 1], [9, 1], [9, 9]]], "no list of numbers"),
        ([[1, 2, "3", 4, 5, 6]], "no list of numbers"),
        ([1, 2, 3, 4, 5, 6], "no list of numbers"),
        (["abc"], "no list of numbers"),
        ([""], "no list of numbers"),
        ([TRIANGLE, {}], "no list of numbers"),
        ("abc", "neither polygons nor RLE"),
        ({"size": SIZE}, "neither polygons nor RLE"),
        ({"size": SIZE, "counts": 5}, "neither polygons nor RLE"),
        ({"size": [5, 5], "counts": [25]}, "of size"),
        ({"size": None, "counts": [25]}, "of size"),
        ({"size": SIZE, "counts": [96 * 128 - 1]}, "do not add up"),
        ({"size": SIZE, "counts": [96 * 128 + 5, -5]}, "do not add up"),
        ({"size": SIZE, "counts": ["12288"]}, "do not add up"),
        ({"size": SIZE, "counts": []}, "do not add up"),
        ({"size": SIZE, "counts": [math.nan]}, "do not add up"),
    ],
)
def test_masks_that_cannot_be_read_are_named(mask, said):
    assert said in mask_problem(mask, SIZE)


def test_masks_that_can_be_read_have_no_problem():
    star = [40, 5, 60, 90, 5, 30, 80, 30, 20, 90]
    for mask in ([TRIANGLE], [], [[]], [[1, 2, 3, 4]], [star], [[-5000.0, 2, 3, 4, 5, 6]] * 300):
        assert mask_problem(mask, SIZE) is None
    assert mask_problem({"size": [96.0, 128.0], "counts": [12000.0, 288]}, SIZE) is None
    huge = [100_000, 100_000]
    assert "pixels" in mask_problem({"size": huge, "counts": [10**10]}, huge)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_unicode(tmp_path, code):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"name": "Äpfel"}, ensure_ascii=False).encode(code))
    assert read_json(path, "file") == {"name": "Äpfel"}


@pytest.mark.parametrize(
    "content", [b"", b"{", "é".encode("latin-1"), b"[" * 200_000, b"[" + b"9" * 10_000 + b"]", b"\x00\xff", b"<html>"]
)
def test_what_is_no_json_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no valid JSON") as caught:
        read_json(path, "Annotation file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3e8, 1e9, 1e300, 1.7e308])
def test_polygons_far_outside_take_no_memory_and_do_not_crash(root, value):
    code = f"""
import resource
from pathlib import Path
from pycocotools import mask
from densevit.ops.masks import encode_polygons, rasterize
from densevit.ops.polygons import valid_polygons
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # by what is imported
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
polygons = valid_polygons([[-{value}, 0.0, {value}, 10.0, 5.0, {value}]])
print(int(rasterize([polygons], (96, 96)).sum()), int(mask.area(encode_polygons(polygons, (96, 96)))))
"""
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8736", "8736"]  # all below the edge, which runs from y = 5 on
