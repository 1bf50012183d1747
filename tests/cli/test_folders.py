"""The `densevit` command on folders of images and labels."""

import os
import shutil
import subprocess
import sys

import pytest
from label_folders import voc_xml, write_text, write_voc, write_yolo

from densevit.datasets.formats import read_folder, write_folder
from densevit.datasets.scenes import writer

BOX = "0 0.5 0.5 0.25 0.5\n"


@pytest.fixture
def densevit(root, tmp_path):
    """Runs `python -m densevit` in an empty folder."""

    def run(*words) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "densevit", *map(str, words)]
        env = dict(os.environ, PYTHONPATH=str(root), DENSEVIT_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1")
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    writer.write_tree(folder, writer.Settings(4, 2, 0, (64, 64), ("boxes", "masks", "semantic", "depth")))
    return folder


def test_check_data_prints_what_a_folder_holds_and_every_mistake(densevit, tmp_path):
    write_yolo(tmp_path / "set", {"train/a": BOX, "val/b": BOX})
    done = densevit("check-data", "set")
    assert done.returncode == 0 and "yolo, boxes and masks (data.yaml), 2 classes" in done.stdout
    write_text(tmp_path / "set/labels/train/a.txt", "7 0.5 0.5 1 1\n0 5 5 5 5\n")
    done = densevit("check-data", "set")
    assert done.returncode == 2 and done.stdout.count("  problem: ") == 2 and "Traceback" not in done.stderr
    done = densevit("check-data", "cache/..")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_convert_data_writes_a_new_folder(densevit, tmp_path):
    write_voc(tmp_path / "set", {name: voc_xml(("cat", 1, 1, 9, 9)) for name in "abc"})
    done = densevit("convert-data", "set", "copy", "--to", "coco")
    assert done.returncode == 0, done.stderr
    assert read_folder(tmp_path / "copy").classes == ("cat",)
    assert densevit("convert-data", "set", "copy", "--to", "coco").returncode == 2


@pytest.mark.parametrize("recipe", ["pvt_maskrcnn_scenes", "pvt_dpt_scenes"])
def test_recipes_of_rendered_scenes_train_on_a_folder(densevit, scenes, tmp_path, recipe):
    if "dpt" in recipe:
        for split in ("train", "val"):
            shutil.copytree(scenes / f"{split}2017", tmp_path / f"set/{split}/images")
            shutil.copytree(scenes / "depth" / split, tmp_path / f"set/{split}/depth")
    else:
        write_folder(read_folder(scenes), tmp_path / "set", "yolo")
    options = ["train_dataloader.batch_size=2", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0"]
    options += ["train_dataloader.persistent_workers=False", "train_cfg.max_epochs=1"]
    words = ["train", recipe, "--data", "set", "--pretrained", "none", "--work-dir", "run", "--cfg-options", *options]
    if "dpt" in recipe:
        done = densevit(*words)
        assert done.returncode == 2 and "Nothing states the unit of the depth maps" in done.stderr
        words[1:1] = ["--depth-scale", "1000"]
    done = densevit(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run/last_checkpoint").exists()
