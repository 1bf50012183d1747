"""A resumed run follows the edited config, or says what it keeps."""

import json

import pytest
import torch
from short_runs import train, write_config

from densevit.errors import CheckpointError

SCHEDULES = {
    "milestones": [dict(type="MultiStepLR", by_epoch=True, milestones=[1], gamma=0.5)],
    "factor": [
        dict(type="LinearLR", start_factor=0.3, by_epoch=False, begin=0, end=6),
        dict(type="MultiStepLR", by_epoch=True, milestones=[2], gamma=0.1),
    ],
    "another kind": [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type="CosineAnnealingLR", by_epoch=False, T_max=12, eta_min=1e-6),
    ],
    "none": None,
}
EDITS = {
    **{name: dict(param_scheduler=parts) for name, parts in SCHEDULES.items()},
    "learning rate": {"optim_wrapper.optimizer.lr": 0.01},
    "learning rate and schedule": {"optim_wrapper.optimizer.lr": 0.01, "param_scheduler": SCHEDULES["another kind"]},
    "weight decay": {"optim_wrapper.optimizer.weight_decay": 0.3},
    "no weight decay": {"optim_wrapper.optimizer.weight_decay": 0.0},
    "betas": {"optim_wrapper.optimizer.betas": [0.8, 0.99]},
    "decay of some": {"optim_wrapper.paramwise_cfg.custom_keys": dict(head=dict(lr_mult=0.5))},
    "more epochs": {"train_cfg.max_epochs": 4},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("data"))


def settings(runner) -> dict:
    """Everything but how a step is computed, by parameter."""
    names = {id(p): name for name, p in runner.bare_model.named_parameters()}
    return {
        names[id(p)]: {k: v for k, v in group.items() if k not in ("params", "foreach", "fused")}
        for group in runner.optim_wrapper.optimizer.param_groups
        for p in group["params"]
    }


def rates(work_dir) -> dict:
    """Logged learning rates by iteration."""
    files = sorted(work_dir.glob("*/vis_data/2*.json"), key=lambda path: path.stat().st_mtime_ns)
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {line["step"]: line["lr"] for line in lines if "lr" in line and "data_time" in line and "loss" in line}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("location", ["between epochs", "within an epoch"])
def test_an_edited_setting_is_followed_as_if_it_had_been_so_from_the_start(tmp_path, config, capfd, edit, location):
    saving = {}
    if location == "within an epoch":
        saving = {"default_hooks.checkpoint.by_epoch": False, "default_hooks.checkpoint.interval": 3}
    options = dict(EDITS[edit], **saving)
    wanted = train(config, tmp_path / "wanted", **options)
    train(config, tmp_path / "run", stop_at=7, **saving)
    capfd.readouterr()
    resumed = train(config, tmp_path / "run", resume=True, **options)
    assert resumed.resume_checkpoint[1]["meta"]["iter"] in (4, 6)
    assert settings(resumed) == settings(wanted)
    begun = resumed.resume_checkpoint[1]["meta"]["iter"]
    later = {step: lr for step, lr in rates(tmp_path / "wanted").items() if step > begun}
    assert later and later.items() <= rates(tmp_path / "run").items()
    printed = "".join(capfd.readouterr())
    assert "WARNING - the edited config is followed: " in printed
    if edit in ("learning rate", "weight decay"):
        new, old = {"learning rate": ("0.01", "0.001"), "weight decay": ("0.3", "0.05")}[edit]
        assert f"is {new} in place of the checkpoint's {old}" in printed
    if edit == "milestones":
        assert "param_scheduler has 1 parts in place of the checkpoint's 2" in printed
    moments = resumed.optim_wrapper.optimizer.state
    assert all(float(moments[p]["step"]) == resumed.iter for p in moments), "the moments went on"


def test_nothing_is_said_where_nothing_was_edited(tmp_path, config, capfd):
    train(config, tmp_path / "run", stop_at=7)
    capfd.readouterr()
    train(config, tmp_path / "run", resume=True)
    assert "WARNING" not in "".join(capfd.readouterr())


def test_another_seed_is_named_as_not_used(tmp_path, config, capfd):
    train(config, tmp_path / "run", stop_at=7)
    assert train(config, tmp_path / "run", resume=True, randomness__seed=77).seed == 3
    assert "WARNING - seed 77 is not used: the resumed run keeps its seed 3" in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop"])
def test_another_optimizer_is_refused(tmp_path, config, kind):
    train(config, tmp_path / "run", stop_at=5)
    with pytest.raises(CheckpointError, match=f"its optimizer is AdamW, that of this run {kind}"):
        train(config, tmp_path / "run", resume=True, optim_wrapper__optimizer__type=kind)


@pytest.mark.parametrize("kind", ["SGD", "RMSprop"])
def test_another_optimizer_is_refused_in_checkpoints_that_do_not_name_theirs(tmp_path, config, kind):
    train(config, tmp_path / "run", stop_at=5)
    path = tmp_path / "run" / "epoch_1.pth"
    content = torch.load(path, weights_only=True)
    del content["optimizer_layout"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="its optimizer"):
        train(config, tmp_path / "run", resume=True, optim_wrapper__optimizer__type=kind)


def test_more_of_the_optimizers_state_than_was_kept_is_refused(tmp_path, config):
    train(config, tmp_path / "run", stop_at=5)
    with pytest.raises(CheckpointError, match=r"where that of this run needs .*max_exp_avg_sq"):
        train(config, tmp_path / "run", resume=True, optim_wrapper__optimizer__amsgrad=True)


def test_a_parameter_that_was_frozen_before_starts_anew(tmp_path, config):
    train(config, tmp_path / "run", stop_at=5, model__frozen="neck")
    resumed = train(config, tmp_path / "run", resume=True)
    steps = {float(state["step"]) for state in resumed.optim_wrapper.optimizer.state.values()}
    assert steps == {8.0, 12.0}
