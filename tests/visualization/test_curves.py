import csv
import json

import cv2
import pytest

from densevit.errors import DataError
from densevit.visualization.curves import draw_curves, read_log, write_table


def part(folder, name, rows):
    (folder / name / "vis_data").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name / "vis_data" / "scalars.json").write_text(lines)


def test_a_resumed_part_takes_the_place_of_what_it_repeats(tmp_path):
    part(tmp_path, "1", [dict(step=s, loss=10.0 - s, lr=0.1) for s in (1, 2, 3, 4)])
    part(tmp_path, "2", [dict(step=s, loss=1.0, lr=0.1) for s in (3, 5)])
    part(tmp_path, "3", [])
    rows = read_log(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 9.0), (2, 8.0), (3, 1.0), (5, 1.0)]


def test_picture_and_table_hold_every_value(tmp_path):
    part(tmp_path, "1", [dict(step=s, loss=1 / s, lr=0.1, time=2.0) for s in range(1, 30)])
    part(tmp_path, "2", [{"step": 40, "coco/bbox_mAP": 0.25}])
    rows = read_log(tmp_path)
    write_table(rows, tmp_path / "out" / "curves.csv")
    draw_curves(rows, tmp_path / "out" / "curves.png")
    table = list(csv.DictReader((tmp_path / "out" / "curves.csv").open()))
    assert len(table) == 30
    assert float(table[1]["loss"]) == 0.5
    assert table[-1]["coco/bbox_mAP"] == "0.25"
    picture = cv2.imread(str(tmp_path / "out" / "curves.png"))
    assert picture.shape[1] > 1000
    assert picture.std() > 5


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(DataError, match="no log"):
        read_log(tmp_path)
    part(tmp_path, "1", [])
    (tmp_path / "1" / "vis_data" / "scalars.json").write_text("{torn")
    with pytest.raises(DataError, match="line 1"):
        read_log(tmp_path)
