"""Weights that are no longer finite end a training and are never saved."""

import math

import pytest
import torch
from mmengine.hooks import Hook
from short_runs import train, write_config

from densevit.checkpoints.reading import read_file
from densevit.engine.build_runner import build_runner
from densevit.engine.config import read_config
from densevit.engine.resuming import non_finite
from densevit.errors import TrainingError


class Spoil(Hook):
    """Makes something of the run NaN or infinite after an iteration."""

    def __init__(self, what: str, iteration: int, value: float = math.nan) -> None:
        self.what, self.iteration, self.value = what, iteration, value

    def after_train_iter(self, runner, **_) -> None:
        if runner.iter + 1 != self.iteration:
            return
        parameters = dict(runner.bare_model.named_parameters())
        with torch.no_grad():
            if self.what == "moment":
                runner.optim_wrapper.optimizer.state[parameters["head.retina_reg.weight"]]["exp_avg"].fill_(self.value)
            else:
                parameters[self.what].fill_(self.value)


def spoiled(config, work_dir, hook, **options):
    cfg = read_config(config, {key.replace("__", "."): value for key, value in options.items()})
    cfg.work_dir = str(work_dir)
    runner = build_runner(cfg)
    runner.register_hook(hook, priority="ABOVE_NORMAL")  # before the hooks that save
    with pytest.raises(TrainingError) as caught:
        runner.train()
    assert "\n" not in str(caught.value)
    for path in work_dir.glob("*.pth"):
        assert non_finite(read_file(path)) is None, path
    return str(caught.value)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("data"))


def test_nan_in_the_loss_stops_at_once_and_names_the_images(tmp_path, config):
    said = spoiled(config, tmp_path / "run", Spoil("backbone.patch_embed1.proj.weight", 6))
    assert "patch_embed1.proj.weight is not finite after iteration 7 on " in said
    assert "before it iteration 6 on" in said and said.count("train2017/0000") == 4
    assert sorted(p.name for p in (tmp_path / "run").glob("epoch*")) == ["epoch_1.pth"]
    resumed = train(config, tmp_path / "run", resume=True)
    assert resumed.resume_checkpoint[0].name == "epoch_1.pth" and resumed.iter == 12


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_no_loss_shows_is_found_when_saving(tmp_path, config, value):
    """The last step of an epoch, and a state that the loss does not see."""
    said = spoiled(config, tmp_path / "weight", Spoil("head.retina_cls.bias", 8, value))
    assert "head.retina_cls.bias is not finite after iteration 8 on" in said
    options = {"default_hooks__checkpoint__by_epoch": False, "default_hooks__checkpoint__interval": 2}
    said = spoiled(config, tmp_path / "moment", Spoil("moment", 4, value), **options)
    assert "exp_avg is not finite after iteration 4 on" in said
    assert (tmp_path / "moment" / "iter_2.pth").exists()


def test_averages_are_looked_at_too(tmp_path, config):
    said = spoiled(config, tmp_path / "run", Spoil("head.retina_cls.bias", 8, math.inf), ema=True)
    assert "state_dict.head.retina_cls.bias is not finite after iteration 8" in said


def test_a_loss_of_no_number_with_finite_weights_goes_on(tmp_path, config, monkeypatch):
    """As where a loss scaler skips the step."""
    from densevit.models.dense_predictor import DensePredictor

    step = DensePredictor.train_step

    def skipped(self, data, optim_wrapper):
        count[0] += 1
        losses = step(self, data, optim_wrapper)
        return {**losses, "loss": losses["loss"] * math.nan} if count[0] % 2 else losses

    count = [0]
    monkeypatch.setattr(DensePredictor, "train_step", skipped)
    assert train(config, tmp_path / "run").iter == 12


def test_minus_infinity_in_a_buffer_is_a_mask():
    mask = torch.full((2, 2), -math.inf)
    assert non_finite({"state_dict": {"mask": mask}}) is None
    assert non_finite({"state_dict": {"mask": mask * math.nan}}) == "state_dict.mask"
