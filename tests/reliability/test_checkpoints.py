"""Promises 1 to 10 of docs/reliability.md: checkpoints run nothing, none is lost, a resumed run is the same run."""

import ast
import os
import pickle
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from commands import run, run_alone
from short_runs import full_disk, losses, train, weights, write_config

import densevit
from densevit.checkpoints.reading import read_file
from densevit.engine.checkpointing import CheckpointSaveError, find_latest_checkpoint, save_atomically
from densevit.errors import CheckpointError


class Command:
    """Unpickled, it would write a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


FORMS = {
    "zip": lambda content, path: torch.save(content, path),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "pickle 2": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)),
    "pickle 4": lambda content, path: path.write_bytes(pickle.dumps(content, protocol=4)),
}
WAYS_IN = {
    "read_file": lambda path, config: read_file(path),
    "load_weights": lambda path, config: densevit.load_weights(torch.nn.Linear(1, 1), path),
    "import_model": lambda path, config: densevit.import_model(path),
    "Predictor": lambda path, config: densevit.Predictor(config, path),
}


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_pickle_with_a_command_is_refused_and_the_command_does_not_run(tmp_path, monkeypatch, form, way_in, suffix):
    """(1, 3) Whatever wrote the file and opens it, also where torch's switch for unsafe loading is set."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    ran, path = tmp_path / "ran", tmp_path / f"file{suffix}"
    FORMS[form]({"state_dict": {"a": torch.ones(1)}, "meta": Command(ran)}, path)
    with pytest.raises(CheckpointError, match="refused") as caught:
        WAYS_IN[way_in](path, "pvt_retinanet_coco")
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not ran.exists()


def test_resuming_refuses_a_pickle_with_a_command_and_does_not_run_it(tmp_path):
    """(1) A checkpoint in a work directory is trusted no more than any other file."""
    config = write_config(tmp_path)
    (tmp_path / "run").mkdir()
    torch.save({"state_dict": {}, "meta": Command(tmp_path / "ran")}, tmp_path / "run" / "epoch_1.pth")
    with pytest.raises(CheckpointError, match="can be used to resume"):
        train(config, tmp_path / "run", resume=True)
    assert not (tmp_path / "ran").exists()


def test_no_reader_falls_back_to_unsafe_loading(root):
    """(2) Every torch.load says weights_only=True, no other loader runs what it reads, and YAML's knows data alone."""
    loads, others = [], []
    for path in [*root.glob("densevit/**/*.py"), *root.glob("tools/*.py"), *root.glob("demo/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name == "torch.load":
                loads.append({k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only"))
            if name in ("pickle.load", "pickle.loads", "yaml.unsafe_load", "torch.jit.load", "np.load"):
                safe = name == "np.load" and "allow_pickle=True" not in ast.unparse(node)
                others += [] if safe else [(path.name, name)]
            if name in ("exec", "eval") and not path.name.startswith(
                "constructor_arguments"
            ):  # annotations of constructors
                others.append((path.name, name))
    assert loads and set(loads) == {"True"}, loads
    assert others == []
    for path in root.glob("densevit/**/*.py"):
        text = path.read_text()
        assert "yaml.load(" not in text or "yaml.SafeLoader" in text, path


def test_no_tool_has_a_switch_for_unsafe_loading(root):
    """(3) There is nothing to opt into: no option, and no argument of the readers."""
    words = ("unsafe", "trust", "pickle", "weights-only", "weights_only", "allow")
    for tool in ("train.py", "test.py", "import_checkpoint.py", "export_weights.py", "demo/image_demo.py"):
        options = [word for word in run(root, tool, "--help").stdout.split() if word.startswith(("-", "[-"))]
        assert options
        assert [option for option in options if any(word in option for word in words)] == []


def flipped(raw: bytes, location: int) -> bytes:
    """With all bits of one byte inverted."""
    return raw[:location] + bytes([raw[location] ^ 255]) + raw[location + 1 :]


TEARS = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "tail": lambda raw: raw[:-3000],
    "another file": lambda raw: b"<!doctype html><title>Sign in</title>",
    "a byte of a tensor": lambda raw: (
        raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 255]) + raw[len(raw) // 2 + 1 :]
    ),
}


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """A run of two epochs, which the tests copy."""
    folder = tmp_path_factory.mktemp("two_epochs")
    train(write_config(folder), folder / "run", train_cfg__max_epochs=2)
    return folder


def copied(run, folder) -> None:
    """A copy of a work directory; it resumes from its own files."""
    shutil.copytree(run, folder, symlinks=True)


@pytest.mark.parametrize("tear", TEARS)
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(tmp_path, two_epochs, capsys, tear):
    """(4) Empty, cut off, replaced or with a single damaged byte."""
    shutil.copytree(
        two_epochs / "run", tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns("last_checkpoint")
    )
    last = tmp_path / "run" / "epoch_2.pth"
    last.write_bytes(TEARS[tear](last.read_bytes()))
    assert find_latest_checkpoint(tmp_path / "run")[0].name == "epoch_1.pth"
    printed = capsys.readouterr().out
    assert str(last) in printed and "Traceback" not in printed
    (tmp_path / "run" / "epoch_1.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        find_latest_checkpoint(tmp_path / "run")


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
import torch
from pathlib import Path
from short_runs import train

torch.set_num_threads(1)
save, saves = torch.save, []

def killed_within(content, file, *more, **options):
    saves.append(1)
    if len(saves) < 3:  # the first checkpoint and the best one are whole
        return save(content, file, *more, **options)
    import io
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = killed_within
train(Path({config!r}), Path({work_dir!r}))
"""


def test_a_run_killed_within_a_save_resumes_to_the_same_bits(tmp_path, root):
    """(5) SIGKILL with half of a checkpoint written: the one before it is used, and what was half written goes."""
    config, work_dir = write_config(tmp_path), tmp_path / "killed"
    script = KILLED.format(tests=str(root / "tests"), config=str(config), work_dir=str(work_dir))
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.stat().st_size > 0 for path in work_dir.glob(".*.unfinished")] == [True]
    unbroken = train(config, tmp_path / "unbroken")
    resumed = train(config, work_dir, resume=True)
    assert resumed.resume_checkpoint[0].name == "epoch_1.pth"
    assert all(torch.equal(a, b) for a, b in zip(weights(unbroken).values(), weights(resumed).values(), strict=True))
    assert unbroken.message_hub.get_info("best_score") == resumed.message_hub.get_info("best_score")
    assert not list(work_dir.glob(".*.unfinished"))


def test_a_save_that_fails_leaves_the_file_before_and_nothing_else(tmp_path):
    """(6) A full disk."""
    path = tmp_path / "epoch_1.pth"
    save_atomically({"a": torch.zeros(1000)}, path)
    with (
        full_disk(10_000),
        pytest.raises(CheckpointSaveError, match=r"epoch_1\.pth could not be written \(file too large\)"),
    ):
        save_atomically({"a": torch.ones(100_000)}, path)
    assert torch.equal(read_file(path, check_sums=True)["a"], torch.zeros(1000))
    assert [p.name for p in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_the_best_score_and_its_checkpoint_survive_resuming(tmp_path):
    """(7) A resumed run neither forgets the best score nor overwrites its checkpoint by a worse one."""
    config = write_config(tmp_path)
    better = dict(default_hooks__checkpoint__save_best="val_loss", default_hooks__checkpoint__rule="greater")
    first = train(config, tmp_path / "run", train_cfg__max_epochs=1, **better)  # the loss falls: epoch 1 stays the best
    score, (best,) = first.message_hub.get_info("best_score"), (tmp_path / "run").glob("best_*.pth")
    content = best.read_bytes()
    resumed = train(config, tmp_path / "run", resume=True, **better)
    assert resumed.message_hub.get_info("best_score") == score
    assert list((tmp_path / "run").glob("best_*.pth")) == [best] and best.read_bytes() == content


def test_another_batch_or_another_number_of_processes_is_said_when_resuming(tmp_path, two_epochs, capfd):
    """(8) Where it goes on and what changed."""
    shutil.copytree(
        two_epochs / "run", tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns("last_checkpoint")
    )
    config = two_epochs / "run.py"
    resumed = train(config, tmp_path / "run", resume=True, train_dataloader__batch_size=1)
    printed = "".join(capfd.readouterr())
    assert "at 2 images a step and 4 steps an epoch, now it is 1 and 7" in printed
    assert resumed.iter == 21, "the third epoch of seven steps"
    path = tmp_path / "run" / "epoch_2.pth"
    shutil.copy(two_epochs / "run" / "epoch_2.pth", path)
    content = read_file(path)
    content["meta"].update(world_size=2, global_batch=4, epoch_length=2)
    for later in ("epoch_3.pth", "last_checkpoint"):
        (tmp_path / "run" / later).unlink(missing_ok=True)
    torch.save(content, path)
    train(config, tmp_path / "run", resume=True)
    assert "at 4 images a step and 2 steps an epoch, now it is 2 and 4" in "".join(capfd.readouterr())


BY_ITERATION = {"default_hooks__checkpoint__by_epoch": False, "default_hooks__checkpoint__interval": 3}
TEN_ITERATIONS = dict(_delete_=True, by_epoch=False, max_iters=10, val_interval=5)
RESUMED = {
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


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path, case):
    """(9) Losses, weights, averages and the best score, by epochs and by iterations, between and within epochs."""
    workers, stop_at, options = RESUMED[case]
    config = write_config(tmp_path, workers=workers)
    unbroken = train(config, tmp_path / "unbroken", **options)
    train(config, tmp_path / "broken", stop_at=stop_at, **options)
    resumed = train(config, tmp_path / "broken", resume=True, **options)
    assert 0 < resumed.resume_checkpoint[1]["meta"]["iter"] <= stop_at, "it did go on from a checkpoint"
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


OLDER_OPTIONS = {
    **BY_ITERATION,
    "ema": True,
    "model__backbone__arch__embed_dims": [4, 8, 8, 8],
    "model__backbone__arch__num_heads": [1, 2, 2, 2],
    "model__head__test__score_thr": 0.0,
    "train_cfg__max_epochs": 2,
}
OLDER_LOSSES = {7: 1.7433443069458008, 8: 1.6881136894226074}
"""Of the run that wrote the older checkpoint, behind it."""


def test_a_checkpoint_of_an_older_version_is_resumed_and_loaded(tmp_path, root):
    """(10) tests/data/older_version/iter_6.pth was written by 0.1.0 before anything that this page promises; its paths
    lead into a folder that is not there."""
    config = write_config(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(root / "tests" / "data" / "older_version" / "iter_6.pth", tmp_path / "run")
    runner = train(config, tmp_path / "run", resume=True, **OLDER_OPTIONS)
    assert runner.resume_checkpoint[0] == tmp_path / "run" / "iter_6.pth" and runner.iter == 8
    found = losses(tmp_path / "run")
    assert found.keys() == OLDER_LOSSES.keys()
    assert max(abs(found[step] - OLDER_LOSSES[step]) for step in found) < 1e-4
    assert runner.message_hub.get_info("best_score") >= 0.003040793968911171
    dumped = tmp_path / "run" / "run.py"
    predictor = densevit.Predictor(dumped, root / "tests" / "data" / "older_version" / "iter_6.pth")
    image = next((tmp_path / "data" / "val2017").iterdir())
    assert predictor.classes == ("class 0", "class 1", "class 2") and len(predictor(image).boxes)


@pytest.mark.slow
def test_a_command_that_was_killed_goes_on_with_resume(tmp_path, root):
    """(5) The same through the tool, as a user types it, in a folder that was moved meanwhile."""
    config, there = write_config(tmp_path), tmp_path / "there"
    script = KILLED.format(tests=str(root / "tests"), config=str(config), work_dir=str(tmp_path / "here"))
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=120)
    (tmp_path / "here").rename(there)
    done = run_alone(root, "train.py", config, "--work-dir", there, "--resume")
    assert done.returncode == 0 and "epoch_1.pth" in done.stdout, done.stderr
    assert (there / "epoch_3.pth").is_file() and not (tmp_path / "here").exists()
