"""Damaged, foreign or hostile resume data: one sentence before anything is changed, whatever part it is in."""

import copy
import math
import shutil

import pytest
import torch
from short_runs import train, write_config

from densevit.checkpoints.reading import read_file
from densevit.engine.build_runner import build_runner
from densevit.engine.checkpointing import base_name, find_latest_checkpoint
from densevit.engine.config import read_config
from densevit.errors import CheckpointError

BY_ITERATION = {"default_hooks__checkpoint__by_epoch": False, "default_hooks__checkpoint__interval": 3}
OPTIONS = {**BY_ITERATION, "ema": True, "optim_wrapper__accumulative_counts": 2}


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    """A run's folder and its checkpoint within an epoch, with gradients under way and averaged weights."""
    folder = tmp_path_factory.mktemp("three_steps")
    train(write_config(folder), folder / "run", stop_at=3, **OPTIONS)
    content = read_file(folder / "run" / "iter_3.pth")
    assert content["gradients"] and content["ema_state_dict"] and content["optimizer"]["state"]
    return folder, content


def resumed(three_steps, tmp_path, content, **options):
    folder, _ = three_steps
    (tmp_path / "run").mkdir()
    torch.save(content, tmp_path / "run" / "iter_3.pth")
    return train(folder / "run.py", tmp_path / "run", resume=True, stop_at=4, **{**OPTIONS, **options})


def put(*path_and_value):
    """A change of the value at a path, where None stands for the first key."""
    *path, value = path_and_value

    def change(content):
        owner = content
        for key in path[:-1]:
            owner = owner[next(iter(owner)) if key is None else key]
        key = next(iter(owner)) if path[-1] is None else path[-1]
        owner[key] = value(owner[key]) if callable(value) else value

    return change


def drop(*path):
    def change(content):
        owner = content
        for key in path[:-1]:
            owner = owner[next(iter(owner)) if key is None else key]
        del owner[next(iter(owner)) if path[-1] is None else path[-1]]

    return change


STATE = ("optimizer", "state", None)
GROUP = ("optimizer", "param_groups", 0)
STREAM = ("random_streams", 0)
DAMAGE = {
    "no meta": drop("meta"),
    "meta is a text": put("meta", "x"),
    "no epoch": drop("meta", "epoch"),
    "no iter": drop("meta", "iter"),
    "iter as text": put("meta", "iter", "3"),
    "iter is negative": put("meta", "iter", -3),
    "iter is none": put("meta", "iter", None),
    "iter before its epoch": put("meta", "epoch", 2),
    "iter beyond its epoch": put("meta", "iter", 9),
    "epoch as float": put("meta", "epoch", 0.5),
    "epoch length zero": put("meta", "epoch_length", 0),
    "batch as text": put("meta", "global_batch", "2"),
    "seed as text": put("meta", "seed", "three"),
    "seed is huge": put("meta", "seed", 2**40),
    "dataset meta as list": put("meta", "dataset_meta", [1]),
    "classes as a number": put("meta", "dataset_meta", "classes", 3),
    "weights are a list": put("state_dict", [1]),
    "weight is none": put("state_dict", None, None),
    "weight of another shape": put("state_dict", None, lambda x: x[:1]),
    "weight of whole numbers": put("state_dict", None, lambda x: x.long()),
    "weight is sparse": put("state_dict", None, lambda x: x.to_sparse()),
    "weight without storage": put("state_dict", None, lambda x: x.to("meta")),
    "weight is NaN": put("state_dict", None, lambda x: x * math.nan),
    "weight is infinite": put("state_dict", None, lambda x: x + math.inf),
    "a weight is missing": drop("state_dict", None),
    "average of another shape": put("ema_state_dict", "module.head.retina_reg.weight", lambda x: x[:1]),
    "average is missing": drop("ema_state_dict", "module.head.retina_reg.weight"),
    "average is NaN": put("ema_state_dict", "module.head.retina_reg.weight", lambda x: x * math.nan),
    "averages are text": put("ema_state_dict", "x"),
    "gradient of another shape": put("gradients", None, lambda x: x.reshape(-1)[:1]),
    "gradient of no parameter": put("gradients", lambda x: {**x, "nothing": torch.ones(1)}),
    "gradient is NaN": put("gradients", None, lambda x: x * math.nan),
    "gradients are a list": put("gradients", [1]),
    "optimizer is none": put("optimizer", None),
    "optimizer without state": drop("optimizer", "state"),
    "optimizer without groups": drop("optimizer", "param_groups"),
    "optimizer state is a list": put("optimizer", "state", []),
    "all of the optimizer's state is gone": put("optimizer", "state", {}),
    "state of one parameter is gone": drop(*STATE),
    "state of a parameter is a text": put(*STATE, "x"),
    "moment of another shape": put(*STATE, "exp_avg", lambda x: x.reshape(-1)[:1]),
    "moment is larger": put(*STATE, "exp_avg_sq", lambda x: torch.zeros(x.numel() + 1)),
    "moment of another type": put(*STATE, "exp_avg", lambda x: x.double()),
    "moment of whole numbers": put(*STATE, "exp_avg", lambda x: x.long()),
    "moment is none": put(*STATE, "exp_avg", None),
    "moment is a number": put(*STATE, "exp_avg", 1.0),
    "moment is missing": drop(*STATE, "exp_avg"),
    "moment is infinite": put(*STATE, "exp_avg", lambda x: x + math.inf),
    "a moment too many": put(*STATE, "other", torch.zeros(1)),
    "step of many": put(*STATE, "step", torch.ones(5)),
    "step is negative": put(*STATE, "step", torch.tensor(-1.0)),
    "step as text": put(*STATE, "step", "1"),
    "an index twice": put(*GROUP, "params", lambda x: [x[0], *x[:-1]]),
    "an index is a list": put(*GROUP, "params", lambda x: [[], *x[1:]]),
    "an index too few": put(*GROUP, "params", lambda x: x[:-1]),
    "learning rate as text": put(*GROUP, "lr", "fast"),
    "learning rate is NaN": put(*GROUP, "lr", math.nan),
    "betas of three": put(*GROUP, "betas", (0.9, 0.9, 0.9)),
    "groups are texts": put("optimizer", "param_groups", ["x"]),
    "schedules are a text": put("param_schedulers", "x"),
    "a schedule is none": put("param_schedulers", 0, None),
    "a schedule stands at a text": put("param_schedulers", 0, "last_step", "x"),
    "a schedule stands at none": put("param_schedulers", 0, "_global_step", None),
    "a schedule's values are too few": put("param_schedulers", 0, "_last_value", [1e-3]),
    "no message hub": drop("message_hub"),
    "message hub is a list": put("message_hub", []),
    "message hub without scalars": drop("message_hub", "log_scalars"),
    "runtime info is none": put("message_hub", "runtime_info", None),
    "scalars of unequal lengths": put("message_hub", "log_scalars", None, "counts", torch.ones(2, dtype=torch.int64)),
    "scalars without counts": drop("message_hub", "log_scalars", None, "counts"),
    "scalars are a text": put("message_hub", "log_scalars", None, "x"),
    "best score as text": put("message_hub", "runtime_info", "best_score", "high"),
    "best score is none": put("message_hub", "runtime_info", "best_score", None),
    "streams are a text": put("random_streams", "x"),
    "a stream is none": put(*STREAM, None),
    "torch's stream is short": put(*STREAM, "torch", lambda x: x[:10]),
    "torch's stream is of floats": put(*STREAM, "torch", lambda x: x.float()),
    "numpy's stream is short": put(*STREAM, "numpy", 1, lambda x: x[:10]),
    "numpy's place lies beyond": put(*STREAM, "numpy", 2, 10**6),
    "Python's stream is short": put(*STREAM, "python", 1, lambda x: x[:10]),
    "Python's stream is missing": drop(*STREAM, "python"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_resume_data_is_one_sentence(three_steps, tmp_path, kind):
    content = copy.deepcopy(three_steps[1])
    DAMAGE[kind](content)
    with pytest.raises(CheckpointError, match=r"iter_3\.pth") as caught:
        resumed(three_steps, tmp_path, content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_undamaged_the_same_data_resumes(three_steps, tmp_path):
    assert resumed(three_steps, tmp_path, copy.deepcopy(three_steps[1])).iter == 3


def test_the_one_before_a_damaged_checkpoint_is_used(three_steps, tmp_path, capsys):
    folder, content = three_steps
    shutil.copytree(folder / "run", tmp_path / "run", symlinks=True)
    broken = copy.deepcopy(content)
    broken["meta"]["iter"] = 6
    broken["state_dict"]["head.retina_reg.bias"][0] = math.nan
    torch.save(broken, tmp_path / "run" / "iter_6.pth")
    (tmp_path / "run" / "last_checkpoint").write_text("iter_6.pth")
    assert find_latest_checkpoint(tmp_path / "run")[0].name == "iter_3.pth"
    assert "iter_6.pth cannot be resumed from: state_dict.head.retina_reg.bias is not finite" in capsys.readouterr().out


def test_states_get_memory_of_their_own_in_the_parameters_layout(three_steps, tmp_path):
    """A fused kernel walks over a state by the number of its elements: a view of one element would be left at once,
    and one strided otherwise than its parameter would be mixed up."""
    content = copy.deepcopy(three_steps[1])
    index, state = next((i, s) for i, s in content["optimizer"]["state"].items() if s["exp_avg"].dim() == 4)
    state["exp_avg"] = torch.full((1,), 0.5).expand(state["exp_avg"].shape)
    runner = resumed(three_steps, tmp_path, content, channels_last=True)
    parameters = [p for group in runner.optim_wrapper.optimizer.param_groups for p in group["params"]]
    found = runner.optim_wrapper.optimizer.state[parameters[index]]
    assert parameters[index].is_contiguous(memory_format=torch.channels_last)
    assert found["exp_avg"].stride() == found["exp_avg_sq"].stride() == parameters[index].stride()


@pytest.mark.parametrize(
    "text", ["/a/b/epoch_1.pth", "../epoch_1.pth", r"C:\runs\epoch_1.pth", "epoch_1.pth\n", "s3://bucket/epoch_1.pth"]
)
def test_a_noted_file_is_known_by_its_name_within_the_folder(text):
    assert base_name(text) == "epoch_1.pth"


@pytest.mark.parametrize("text", ["", "..", "a/", ".", None, 3, ["x"]])
def test_what_is_no_name_is_none(text):
    assert base_name(text) is None


@pytest.mark.parametrize("kind", ["absolute", "relative", "link", "link in the folder", "of no best file"])
def test_nothing_outside_the_folder_is_deleted(three_steps, tmp_path, kind):
    """A better score removes the best file before it: within the folder, whatever the checkpoint names."""
    folder, content = three_steps
    victim = tmp_path / "best_thesis.pth"
    victim.write_text("three years of work")
    content = copy.deepcopy(content)
    info = content["message_hub"]["runtime_info"]
    info.update(best_score=-9.0, keep_ckpt_ids=["../best_thesis", 2**70, -1, {}, "x"], last_ckpt=str(victim))
    info["best_ckpt"] = {"relative": "../best_thesis.pth", "of no best file": "run.py"}.get(kind, str(victim))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.py").write_text("# not a checkpoint")
    if kind == "link":
        (tmp_path / "run" / "best_thesis.pth").symlink_to(victim)
    if kind == "link in the folder":
        (tmp_path / "run" / "elsewhere").symlink_to(tmp_path)
        info["best_ckpt"] = str(tmp_path / "run" / "elsewhere" / "best_thesis.pth")
    torch.save(content, tmp_path / "run" / "iter_3.pth")
    options = {**OPTIONS, "train_cfg__max_epochs": 1, "default_hooks__checkpoint__max_keep_ckpts": 1}
    train(folder / "run.py", tmp_path / "run", resume=True, **options)
    assert victim.read_text() == "three years of work"
    assert any(path.name.startswith("best_coco") for path in (tmp_path / "run").iterdir())
    assert (tmp_path / "run" / "run.py").exists()


def test_a_link_out_of_the_folder_is_not_followed(three_steps, tmp_path, capsys):
    folder, _ = three_steps
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "iter_3.pth").symlink_to(folder / "run" / "iter_3.pth")
    (tmp_path / "run" / "last_checkpoint").write_text(str(folder / "run" / "iter_3.pth"))
    with pytest.raises(CheckpointError, match="a link out of its folder"):
        find_latest_checkpoint(tmp_path / "run")


def test_a_copy_goes_on_from_its_own_files_and_notes_names_alone(three_steps, tmp_path):
    folder, _ = three_steps
    shutil.copytree(folder / "run", tmp_path / "copy", symlinks=True)
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    (tmp_path / "copy" / "last_checkpoint").write_text(str(folder / "run" / "iter_3.pth"))
    runner = train(folder / "run.py", tmp_path / "copy", resume=True, **OPTIONS, train_cfg__max_epochs=1)
    assert runner.resume_checkpoint[0].parent == tmp_path / "copy"
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    info = read_file(tmp_path / "copy" / "iter_4.pth")["message_hub"]["runtime_info"]
    assert info["last_ckpt"] == "iter_4.pth" and info["best_ckpt"] == "best_coco_bbox_AP_iter_4.pth"
    assert str(tmp_path) not in str({k: v for k, v in info.items() if k != "cfg"})


def test_checkpoints_are_ordered_by_number_and_kinds_by_how_long_they_trained(three_steps, tmp_path):
    _, content = three_steps
    for name, epoch, iteration in (("epoch_9", 9, 36), ("epoch_10", 10, 40), ("iter_39", 9, 39), ("iter_4", 1, 4)):
        torch.save(content | {"meta": content["meta"] | dict(epoch=epoch, iter=iteration)}, tmp_path / f"{name}.pth")
    names = []
    while (found := find_latest_checkpoint(tmp_path)) is not None:
        names.append(found[0].stem)
        found[0].unlink()
    assert names == ["epoch_10", "iter_39", "epoch_9", "iter_4"]


def test_an_out_dir_is_where_a_resume_looks(three_steps, tmp_path):
    folder, _ = three_steps
    options = {**OPTIONS, "default_hooks__checkpoint__out_dir": str(tmp_path / "out")}
    train(folder / "run.py", tmp_path / "run", stop_at=3, **options)
    assert not list((tmp_path / "run").glob("*.pth"))
    runner = train(folder / "run.py", tmp_path / "run", resume=True, stop_at=4, **options)
    assert runner.resume_checkpoint[0] == tmp_path / "out" / "run" / "iter_3.pth"


def test_the_classes_of_a_resumed_checkpoint_are_compared_before_the_start(three_steps, tmp_path):
    folder, content = three_steps
    content = copy.deepcopy(content)
    content["meta"]["dataset_meta"]["classes"] = ("class 1", "class 0", "class 2")
    torch.save(content, tmp_path / "iter_3.pth")
    cfg = read_config(folder / "run.py")
    cfg.work_dir = str(tmp_path)
    with pytest.raises(CheckpointError, match=r"'class 1' as class 0, where .* has 'class 0': resume it with"):
        build_runner(cfg, resume=True)
