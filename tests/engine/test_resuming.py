"""A run that is ended and resumed is the run that was not ended."""

import shutil

import pytest
import torch
from short_runs import losses, train, weights, write_config

import densevit.engine.loops as loops
from densevit.checkpoints.reading import read_file
from densevit.engine.checkpointing import find_last_good
from densevit.errors import CheckpointError

BY_ITERATION = {"default_hooks__checkpoint__by_epoch": False, "default_hooks__checkpoint__interval": 3}
TEN_ITERATIONS = dict(_delete_=True, by_epoch=False, max_iters=10, val_interval=5)
CASES = {
    # (batch workers, iteration after which the run ends, options)
    "between two epochs": (0, 6, {}),
    "within an epoch": (2, 7, BY_ITERATION),
    "after the last step of an epoch": (0, 5, {**BY_ITERATION, "default_hooks__checkpoint__interval": 4}),
    "averaged weights": (0, 7, {**BY_ITERATION, "ema": True}),
    "gradients under way": (
        0,
        8,
        {**BY_ITERATION, "default_hooks__checkpoint__interval": 7, "optim_wrapper__accumulative_counts": 3},
    ),
    "by iterations": (1, 9, {**BY_ITERATION, "train_cfg": TEN_ITERATIONS}),
    "bf16": (0, 7, {**BY_ITERATION, "amp": True, "channels_last": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path, case):
    workers, stop_at, options = CASES[case]
    config = write_config(tmp_path, workers=workers)
    unbroken = train(config, tmp_path / "unbroken", **options)
    train(config, tmp_path / "broken", stop_at=stop_at, **options)
    resumed = train(config, tmp_path / "broken", resume=True, **options)
    assert 0 < resumed.found[1]["meta"]["iter"] <= stop_at, "it did go on from a checkpoint"
    wanted, found = losses(tmp_path / "unbroken"), losses(tmp_path / "broken")
    assert wanted.keys() == found.keys() and len(wanted) >= 10
    assert max(abs(wanted[step] - found[step]) for step in wanted) <= 1e-6
    for (name, ours), theirs in zip(weights(unbroken).items(), weights(resumed).values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert unbroken.message_hub.get_info("best_score") == resumed.message_hub.get_info("best_score")
    if "ema" in options:
        averages = [read_file(tmp_path / f / "last_averages.pth") for f in _last_averages(tmp_path, unbroken, resumed)]
        assert all(torch.equal(averages[0][key], averages[1][key]) for key in averages[0])


def _last_averages(folder, *runners):
    for name, runner in zip(("unbroken", "broken"), runners, strict=True):
        hook = next(h for h in runner.hooks if type(h).__name__ == "EMAHook")
        torch.save(hook.ema_model.state_dict(), folder / name / "last_averages.pth")
        yield name


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


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(tmp_path, capsys):
    config = write_config(tmp_path)
    unbroken = train(config, tmp_path / "unbroken")
    train(config, tmp_path / "broken", stop_at=11)
    last = tmp_path / "broken" / "epoch_2.pth"
    last.write_bytes(last.read_bytes()[:-3000])
    resumed = train(config, tmp_path / "broken", resume=True)
    printed = capsys.readouterr().out
    assert f"{last} is torn" in printed
    assert resumed.found[0].name == "epoch_1.pth"
    assert all(torch.equal(a, b) for a, b in zip(weights(unbroken).values(), weights(resumed).values(), strict=True))


def test_a_damaged_byte_within_a_tensor_is_noticed(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "run", train_cfg__max_epochs=2)
    last = tmp_path / "run" / "epoch_2.pth"
    tensor = read_file(last)["state_dict"]["head.retina_reg.weight"]
    content = bytearray(last.read_bytes())
    content[content.index(tensor.numpy().tobytes()) + 10] ^= 1
    last.write_bytes(content)
    assert find_last_good(tmp_path / "run")[0].name == "epoch_1.pth"


def test_no_good_checkpoint_at_all_is_an_error_and_none_is_a_start(tmp_path):
    assert find_last_good(tmp_path) is None
    (tmp_path / "epoch_1.pth").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        find_last_good(tmp_path)


def test_a_folder_that_was_moved_can_be_resumed(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "here", train_cfg__max_epochs=1)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert find_last_good(tmp_path / "there")[0] == tmp_path / "there" / "epoch_1.pth"


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
