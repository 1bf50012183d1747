"""What a training would meet at its first validation is found before its first step."""

import json

import numpy as np
import pytest
import torch
from short_runs import train, write_config

from densevit.engine.before_training import _check_depth
from densevit.engine.classes import compare_datasets
from densevit.errors import ConfigError, DataError, UserError

STOP = "\ncustom_hooks = [dict(type='EarlyStoppingHook', monitor={monitor!r}, patience=1)]\n"


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


def refused(config, folder, match, kind=UserError, **options):
    """The run is refused before its first step."""
    with pytest.raises(kind, match=match):
        train(config, folder, stop_at=1, **options)
    assert not list(folder.glob("*.pth"))


def edit(config, part, change):
    file = config.parent / f"data/annotations/instances_{part}2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def swap_names(content):
    a, b = content["categories"][:2]
    a["name"], b["name"] = b["name"], a["name"]


def other_ids(content):
    for entry, key in [(c, "id") for c in content["categories"]] + [(a, "category_id") for a in content["annotations"]]:
        entry[key] += 10


def test_class_tables_in_another_order_are_refused_and_other_ids_are_mapped_by_name(config, tmp_path):
    edit(config, "val", other_ids)
    train(config, tmp_path / "ids", stop_at=1)
    edit(config, "val", swap_names)
    refused(
        config, tmp_path / "names", "classes of val_dataloader .* class 0 is 'class 1' and not 'class 0'", DataError
    )


def test_the_test_set_and_joined_sets_have_the_same_table(config, tmp_path):
    data = tmp_path / "data/annotations"
    content = json.loads((data / "instances_val2017.json").read_text())
    swap_names(content)
    (data / "instances_test2017.json").write_text(json.dumps(content))
    other = dict(test_dataloader__dataset__ann_file="annotations/instances_test2017.json")
    refused(config, tmp_path / "test", "classes of test_dataloader", DataError, **other)
    train(config, tmp_path / "run", stop_at=1, test_dataloader__dataset__ann_file="annotations/not_there_yet.json")
    text = (
        config.read_text()
        + """
_part = train_dataloader["dataset"]
_other = dict(_part, ann_file="annotations/instances_test2017.json", data_prefix=dict(img="val2017/"))
train_dataloader["dataset"] = dict(type="ConcatDataset", datasets=[_part, _other], ignore_keys=[KEYS])
"""
    )
    config.write_text(text.replace("KEYS", "'ann_file'"))
    refused(config, tmp_path / "a", "train_dataloader.dataset of the config cannot be built", ConfigError)
    config.write_text(text.replace("KEYS", "'ann_file', 'classes'"))
    refused(config, tmp_path / "b", "classes of a part of train_dataloader", DataError)


@pytest.mark.parametrize("key", ["classes", "semantic_classes"])
def test_tables_are_compared_by_name_order_and_length(key):
    class Data:
        def __init__(self, *names):
            self.metainfo = {key: names, "ann_file": "file"}

    compare_datasets(Data("a", "b"), Data("a", "b"), "val_dataloader")
    for other in (Data("b", "a"), Data("a"), Data("a", "b", "c"), Data("a", "c")):
        with pytest.raises(DataError, match=f"{key} of val_dataloader"):
            compare_datasets(Data("a", "b"), other, "val_dataloader")


@pytest.mark.parametrize("monitor", ["coco/bbox_AP", "coco/bbox_AR100", "val_loss"])
def test_early_stopping_knows_the_rule_of_the_metrics(config, tmp_path, monitor):
    config.write_text(config.read_text() + STOP.format(monitor=monitor))
    runner = train(config, tmp_path / "run", stop_at=1)
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == "EarlyStoppingHook")
    assert hook.rule == ("less" if "loss" in monitor else "greater")


@pytest.mark.parametrize("monitor", ["coco/bbox_mAP", "coco/segm_AP", "semantic/mIoU"])
def test_a_metric_that_is_never_computed_is_not_watched(config, tmp_path, monitor):
    refused(config, tmp_path / "best", monitor, ConfigError, default_hooks__checkpoint__save_best=monitor)
    config.write_text(config.read_text() + STOP.format(monitor=monitor))
    refused(config, tmp_path / "stop", monitor, ConfigError)


def test_a_metric_of_what_the_model_does_not_predict_is_refused(config, tmp_path):
    refused(config, tmp_path / "run", "predicts none", val_evaluator__metric="segm")


def test_a_training_is_not_compiled_where_there_is_no_compiler(config, tmp_path, monkeypatch):
    from torch._inductor import config as inductor
    from torch._inductor import cpp_builder

    torch._dynamo.reset()
    cpp_builder.cpp_compiler_search.cache_clear()
    monkeypatch.setattr(inductor.cpp, "cxx", (None, str(tmp_path / "none")))
    refused(config, tmp_path / "run", r"torch\.compile cannot build code", ConfigError, compile=True)
    cpp_builder.cpp_compiler_search.cache_clear()


def test_loaders_without_a_batch_and_a_validation_that_leaves_images_out_are_refused(config, tmp_path):
    few = dict(train_dataloader__drop_last=True, train_dataloader__batch_size=50)
    refused(config, tmp_path / "a", "train_dataloader yields no batch", ConfigError, **few)
    few = dict(val_dataloader__drop_last=True, val_dataloader__batch_size=50)
    refused(config, tmp_path / "b", "val_dataloader yields no batch", ConfigError, **few)
    refused(config, tmp_path / "c", "leaves images unscored", ConfigError, val_dataloader__drop_last=True)


def test_a_result_file_of_validation_is_no_annotation_file(config, tmp_path):
    file = tmp_path / "data/annotations/instances_train2017.json"
    before = file.read_bytes()
    refused(config, tmp_path / "run", "would be overwritten", ConfigError, val_evaluator__out=str(file))
    assert file.read_bytes() == before


def test_the_look_at_the_validation_changes_no_number(config, tmp_path, monkeypatch):
    import densevit.engine.before_training as module

    with_it = train(config, tmp_path / "a", stop_at=3).bare_model.state_dict()
    monkeypatch.setattr(module, "_try_validation", lambda runner: None)
    without = train(config, tmp_path / "b", stop_at=3).bare_model.state_dict()
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())


class Depths:
    metainfo = {"ann_file": "maps"}

    def __init__(self, *maps):
        self.maps = maps

    def __len__(self):
        return len(self.maps)

    def get_data_info(self, index):
        return dict(depth_path=str(index), read_depth=lambda path: np.array(self.maps[int(path)], np.float32))


def test_depth_of_which_nothing_is_in_range_is_refused():
    _check_depth(Depths([0, 250], [0, 5]), 20)
    _check_depth(Depths([250]), float("inf"))
    with pytest.raises(DataError, match=r"None of 2 depth maps of maps has a pixel nearer than 20 m"):
        _check_depth(Depths([0, 250], [750]), 20)


def test_the_config_in_the_work_dir_is_not_written_over(config, tmp_path):
    before = config.read_bytes()
    train(config, tmp_path, stop_at=1)
    assert config.read_bytes() == before


def test_weights_that_a_training_begins_from_are_not_in_its_work_dir(config, tmp_path):
    train(config, tmp_path / "run", train_cfg__max_epochs=1)
    weights = tmp_path / "run/epoch_1.pth"
    before = weights.read_bytes()
    with pytest.raises(ConfigError, match=r"holds epoch_1\.pth, which the training begins from"):
        train(config, tmp_path / "run", stop_at=1, load_from=str(weights))
    assert weights.read_bytes() == before
    train(config, tmp_path / "other", stop_at=1, load_from=str(weights))
