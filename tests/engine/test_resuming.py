"""A run that is ended and resumed is the run that was not ended."""

import shutil

import pytest
import torch
from short_runs import train, weights, write_config

import densevit.engine.loops as loops
from densevit.checkpoints.reading import read_file
from densevit.engine.checkpointing import find_latest_checkpoint
from densevit.errors import CheckpointError


def test_a_resumed_run_differs_without_its_random_streams(tmp_path):
    """The equality above is no accident of a model without randomness."""
    config = write_config(tmp_path)
    unbroken = train(config, tmp_path / "unbroken")
    train(config, tmp_path / "broken", stop_at=6)
    path = tmp_path / "broken" / "epoch_1.pth"
    content = read_file(path)
    content["random_streams"] = []
    torch.save(content, path)
    resumed = train(config, tmp_path / "broken", resume=True)
    pairs = zip(weights(unbroken).values(), weights(resumed).values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_no_good_checkpoint_at_all_is_an_error_and_none_is_a_start(tmp_path):
    assert find_latest_checkpoint(tmp_path) is None
    (tmp_path / "epoch_1.pth").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        find_latest_checkpoint(tmp_path)


def test_a_folder_that_was_moved_can_be_resumed(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "here", train_cfg__max_epochs=1)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert find_latest_checkpoint(tmp_path / "there")[0] == tmp_path / "there" / "epoch_1.pth"


def test_a_validation_that_was_cut_off_is_made_up_for(tmp_path, monkeypatch):
    config = write_config(tmp_path)
    validated = []

    def broken_off(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loops.ValLoop, "run", broken_off)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", train_cfg__max_epochs=1)
    whole = loops.ValLoop.run
    monkeypatch.setattr(loops.ValLoop, "run", lambda self: validated.append(self.runner.iter) or whole(self))
    runner = train(config, tmp_path / "run", resume=True, train_cfg__max_epochs=1)
    assert validated == [4] and runner.message_hub.get_info("best_score") is not None
    train(config, tmp_path / "run", resume=True, train_cfg__max_epochs=1)
    assert validated == [4], "once is enough"


def test_the_checkpoint_of_another_model_is_refused_in_one_sentence(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "run", train_cfg__max_epochs=1)
    with pytest.raises(CheckpointError, match=r"another model, which differs in head.cls_convs.1.weight") as caught:
        train(config, tmp_path / "run", resume=True, model__head__stacked_convs=2)
    assert "\n" not in str(caught.value)


def test_the_seed_of_a_resumed_run_is_that_of_its_beginning(tmp_path):
    config = write_config(tmp_path)
    first = train(config, tmp_path / "run", train_cfg__max_epochs=1, randomness__seed=None)
    again = train(config, tmp_path / "run", resume=True, train_cfg__max_epochs=2, randomness__seed=None)
    assert first.seed == again.seed == again.train_dataset.seed


def test_any_torch_reads_our_checkpoints_without_running_anything(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "run", train_cfg__max_epochs=1, ema=True)
    content = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=True)
    meta = content["meta"]["dataset_meta"]
    assert meta["classes"] == ("class 0", "class 1", "class 2") and meta["cat_ids"] == (1, 3, 5)
    assert {"ema_state_dict", "optimizer", "param_schedulers", "random_streams"} <= content.keys()
