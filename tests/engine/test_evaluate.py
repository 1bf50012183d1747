"""The classes that a checkpoint was trained on must be those of the dataset that it is tested on, and results have a
location of their own."""

import errno

import pytest
from short_runs import train, write_config

from densevit.datasets.semantic_classes import semantic_classes
from densevit.engine.classes import compare_classes
from densevit.engine.config import read_config
from densevit.engine.evaluate import evaluate_checkpoint as run_test
from densevit.errors import CheckpointError, ConfigError

OURS = dict(classes=semantic_classes("ade20k").names, ann_file="maps")


def test_mmsegmentations_names_of_ade20k_are_ours():
    """It writes one of them, 'bed ', with a blank."""
    theirs = [f"{name} " if name == "bed" else name for name in OURS["classes"]]
    compare_classes("x.pth", dict(classes=theirs), OURS)
    segmentor = pytest.importorskip("mmseg.datasets").ADE20KDataset
    compare_classes("x.pth", dict(segmentor.METAINFO), OURS)


def test_other_classes_are_named():
    swapped = [*OURS["classes"][:2], "water", *OURS["classes"][3:]]
    with pytest.raises(CheckpointError, match="'water' as class 2, where maps has 'sky'"):
        compare_classes("x.pth", dict(classes=swapped), OURS)
    with pytest.raises(CheckpointError, match="trained on 149 classes and maps has 150"):
        compare_classes("x.pth", dict(classes=OURS["classes"][:-1]), OURS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder)
    train(config, folder / "run", train_cfg__max_epochs=1)
    return config, folder / "run/epoch_1.pth"


def evaluate(trained, tmp_path, **arguments):
    config, checkpoint = trained
    cfg = read_config(config)
    cfg.work_dir = str(tmp_path / "test")
    return run_test(cfg, str(checkpoint), **arguments)


@pytest.mark.parametrize("name", ["run.py", "run/epoch_1.pth", "data/annotations/instances_val2017.json"])
def test_results_over_what_is_read_are_refused_before_anything_is_predicted(trained, tmp_path, name, monkeypatch):
    monkeypatch.setattr("densevit.engine.runner.Runner.test", lambda runner: pytest.fail("predicted"))
    file = trained[0].parent / name
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="would be overwritten"):
        evaluate(trained, tmp_path, out=str(file))
    assert file.read_bytes() == before


def test_metrics_outlive_results_and_pictures_that_cannot_be_written(trained, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("densevit.metrics.coco.write_results", full)
    with pytest.raises(ConfigError, match=r"no space left on device; .*the metrics above are complete"):
        evaluate(trained, tmp_path, out=str(tmp_path / "r.json"), on_sample=full)
    assert "coco/bbox_AP50" in next((tmp_path / "test").glob("*/*.log")).read_text()
