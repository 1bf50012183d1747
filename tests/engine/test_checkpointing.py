"""Writing checkpoints: whole or not at all, and never at the cost of the one before."""

import contextlib

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from short_runs import full_disk, train, write_config

from densevit.checkpoints.reading import read_file
from densevit.engine.build_runner import build_runner
from densevit.engine.checkpointing import (
    CheckpointSaveError,
    find_latest_checkpoint,
    from_plain,
    plain,
    save_atomically,
)
from densevit.engine.config import read_config
from densevit.errors import UserError


class DiskIsFull(Hook):
    """From one iteration to another the disk is full."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.stack = first, last, contextlib.ExitStack()

    def before_train_iter(self, runner, **_):
        if runner.iter + 1 == self.first:
            self.stack.enter_context(full_disk(20_000))
        if runner.iter + 1 == self.last:
            self.stack.close()


def run_with_full_disk(tmp_path, first, last, **options):
    cfg = read_config(write_config(tmp_path), options)
    cfg.work_dir = str(tmp_path / "run")
    runner = build_runner(cfg)
    hook = DiskIsFull(first, last)
    runner.register_hook(hook)
    with hook.stack:
        runner.train()
    return runner


def test_a_folder_that_is_gone_is_a_failed_save(tmp_path):
    with pytest.raises(CheckpointSaveError, match="no such file or directory"):
        save_atomically({"a": torch.ones(1)}, tmp_path / "gone" / "epoch_1.pth")


def test_training_goes_on_with_the_disk_full_and_saves_again_later(tmp_path, capfd):
    run_with_full_disk(tmp_path, 5, 9)
    printed = "".join(capfd.readouterr())
    assert "epoch_2.pth could not be written (file too large); the checkpoint before it is whole" in printed
    names = sorted(p.name for p in (tmp_path / "run").glob("*.pth"))
    assert names == ["best_coco_bbox_AP_epoch_1.pth", "epoch_1.pth", "epoch_3.pth", "latest.pth"]
    assert (tmp_path / "run" / "latest.pth").resolve().name == "epoch_3.pth"
    assert find_latest_checkpoint(tmp_path / "run")[0].name == "epoch_3.pth"
    assert not list((tmp_path / "run").glob(".*")), "nothing half written stays"


def test_with_the_disk_full_to_the_end_the_run_ends_with_an_error_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"its last checkpoint could not be written to .*--resume"):
        run_with_full_disk(tmp_path, 5, 99)
    assert find_latest_checkpoint(tmp_path / "run")[0].name == "epoch_1.pth"


def test_the_oldest_checkpoint_goes_only_after_the_new_one_stands(tmp_path):
    """MMEngine removes first: with max_keep_ckpts=1 and a full disk nothing would be left."""
    with pytest.raises(UserError):
        run_with_full_disk(tmp_path, 5, 99, **{"default_hooks.checkpoint.max_keep_ckpts": 1})
    assert find_latest_checkpoint(tmp_path / "run")[0].name == "epoch_1.pth"


def test_max_keep_ckpts_and_save_best(tmp_path):
    runner = train(
        write_config(tmp_path),
        tmp_path / "run",
        default_hooks__checkpoint__save_best="val_loss",
        default_hooks__checkpoint__max_keep_ckpts=1,
    )
    names = sorted(p.name for p in (tmp_path / "run").glob("*.pth"))
    assert names == ["best_val_loss_epoch_3.pth", "epoch_3.pth", "latest.pth"], "the loss falls in these three epochs"
    last = read_file(tmp_path / "run" / "epoch_3.pth")["message_hub"]["runtime_info"]
    assert last["best_score"] == runner.message_hub.get_info("best_score")
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "epoch_3.pth"


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path):
    left = tmp_path / "run" / ".epoch_9.pth.123.unfinished"
    left.parent.mkdir()
    left.write_bytes(b"PK")
    train(write_config(tmp_path), tmp_path / "run", train_cfg__max_epochs=1)
    assert not left.exists()


def test_averaged_weights_are_what_a_checkpoint_offers(tmp_path):
    runner = train(write_config(tmp_path), tmp_path / "run", train_cfg__max_epochs=1, ema=dict(momentum=0.5))
    hook = next(h for h in runner.hooks if type(h).__name__ == "EMAHook")
    saved = read_file(tmp_path / "run" / "epoch_1.pth")["state_dict"]
    name = "head.retina_reg.weight"
    assert torch.equal(saved[name], hook.ema_model.module.state_dict()[name])
    assert not torch.equal(saved[name], runner.bare_model.state_dict()[name])


def test_plain_and_back():
    buffer = HistoryBuffer()
    for value in (1.5, 2.5):
        buffer.update(value)
    state = plain({"loss": buffer, "names": ("a", np.int64(3)), "array": np.arange(2), "other": object})
    assert state["names"] == ("a", 3) and state["array"] == [0, 1] and isinstance(state["other"], str)
    back = from_plain(state)["loss"]
    back.update(3.5)
    assert back.mean() == 2.5 and back.mean(2) == 3.0
