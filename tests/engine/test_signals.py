"""SIGTERM, SIGINT, SIGHUP: finish the step, save, leave with the signal's code; the resumed run is the unbroken one."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.hooks import Hook
from short_runs import losses, train, weights, write_config

from densevit.checkpoints.reading import read_file
from densevit.engine.build_runner import build_runner
from densevit.engine.config import read_config

BY_ITERATION = {"default_hooks.checkpoint.by_epoch": False, "default_hooks.checkpoint.interval": 3}
TEN_ITERATIONS = dict(_delete_=True, by_epoch=False, max_iters=10, val_interval=5)


class Signal(Hook):
    """Sends a signal to its own process at the n-th call of a stage."""

    def __init__(self, stage: str, n: int, number: int) -> None:
        self.n, self.number = n, number
        setattr(self, stage, self.count)

    def count(self, *_, **__) -> None:
        self.n -= 1
        if self.n == 0:
            os.kill(os.getpid(), self.number)

    def get_triggered_stages(self) -> list:
        return [stage for stage in self.stages if stage in vars(self)]


def interrupted(config, work_dir, stage, n, number, **options) -> int:
    cfg = read_config(config, {key.replace("__", "."): value for key, value in options.items()})
    cfg.work_dir = str(work_dir)
    runner = build_runner(cfg)
    # 'before_save_checkpoint' and its like are called by name, whatever get_triggered_stages says
    runner.register_hook(Signal(stage, n, number))
    with pytest.raises(SystemExit) as left:
        runner.train()
    return left.value.code


CASES = {
    # (stage, its number, iteration that the checkpoint holds, options)
    "within an epoch": ("after_train_iter", 6, 6, {}),
    "within a step": ("before_train_iter", 6, 6, {}),
    "at the end of an epoch": ("after_train_iter", 8, 8, {}),
    "between epoch and validation": ("after_train_epoch", 1, 4, {}),
    "in a validation": ("after_val_iter", 3, 8, {}),
    "at the end of a validation": ("after_val_epoch", 2, 8, {}),
    "in a save": ("before_save_checkpoint", 2, 4, {}),
    "in a validation that no save precedes": ("after_val_iter", 3, 8, {"default_hooks.checkpoint.interval": 9}),
    "averaged weights in a validation": ("after_val_iter", 1, 4, {"ema": True, "default_hooks.checkpoint.interval": 9}),
    "saved by iterations": ("after_train_iter", 5, 5, BY_ITERATION),
    "gradients under way": ("after_train_iter", 5, 5, {"optim_wrapper.accumulative_counts": 3}),
    "trained by iterations": ("after_train_iter", 6, 6, {**BY_ITERATION, "train_cfg": TEN_ITERATIONS}),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_a_signal_ended_resumes_as_the_unbroken_one(tmp_path, config, case):
    stage, n, iteration, options = CASES[case]
    number = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[list(CASES).index(case) % 3]
    assert interrupted(config, tmp_path / "ended", stage, n, number, **options) == 128 + number
    assert not (tmp_path / "ended" / "training.lock").exists()
    resumed = train(config, tmp_path / "ended", resume=True, **options)
    assert resumed.resume_checkpoint[1]["meta"]["iter"] == iteration
    unbroken = train(config, tmp_path / "unbroken", **options)
    wanted, found = losses(tmp_path / "unbroken"), losses(tmp_path / "ended")
    assert wanted == found and len(wanted) >= 10
    for (name, ours), theirs in zip(weights(unbroken).items(), weights(resumed).values(), strict=True):
        assert torch.equal(ours, theirs), name
    states = [runner.message_hub.get_info("best_score") for runner in (unbroken, resumed)]
    assert states[0] == states[1]
    last = "iter_10.pth" if "train_cfg" in options else "iter_12.pth" if BY_ITERATION.items() <= options.items() else ""
    ours, theirs = (read_file(tmp_path / run / (last or "epoch_3.pth")) for run in ("unbroken", "ended"))
    for index, state in ours["optimizer"]["state"].items():
        assert all(torch.equal(value, theirs["optimizer"]["state"][index][key]) for key, value in state.items())
    if not last:
        assert not list((tmp_path / "ended").glob("iter_*.pth")), "the one between two epochs is replaced by the next"


def test_before_the_first_step_nothing_is_saved(tmp_path, config):
    assert interrupted(config, tmp_path, "before_train", 1, signal.SIGTERM) == 143
    assert not list(tmp_path.glob("*.pth"))


def test_handlers_of_others_stay_and_come_back(tmp_path, config):
    """nohup ignores SIGHUP, and a program around the training may have handlers of its own."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        seen = []
        cfg = read_config(config, {"train_cfg.max_epochs": 1})
        cfg.work_dir = str(tmp_path)
        runner = build_runner(cfg)
        runner.register_hook(Signal("after_train_iter", 2, signal.SIGHUP))
        runner.train()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and runner.iter == 4
        assert not seen
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) is before


SLOW_STEP = """
import time
from mmengine.hooks import Hook
from densevit.registry import HOOKS
@HOOKS.register_module()
class Sleep(Hook):
    def after_train_iter(self, runner, **_):
        if runner.iter == 1:
            print("asleep", flush=True)
            time.sleep(60)
"""


@contextlib.contextmanager
def begun(root, tmp_path, config, until: bytes, *options):
    """A training in a process group of its own, once it has printed something."""
    env = dict(os.environ, PYTHONPATH=f"{root}:{tmp_path}", OMP_NUM_THREADS="1")
    command = [sys.executable, root / "tools" / "train.py", config, "--work-dir", tmp_path / "run", "--cfg-options"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = subprocess.Popen([*command, *options], env=env, start_new_session=True, **pipes)
    try:
        while until not in run.stdout.readline():
            assert run.poll() is None
        yield run
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()


def test_a_second_signal_ends_the_process_at_once(root, tmp_path, config):
    (tmp_path / "slow_step.py").write_text(SLOW_STEP)
    options = ["custom_imports.imports=['slow_step']", "custom_hooks=[{'type':'Sleep'}]"]
    text = config.read_text() + 'custom_imports = dict(imports=["slow_step"])\ncustom_hooks = [dict(type="Sleep")]\n'
    slow = tmp_path / "slow.py"
    slow.write_text(text)
    options = ["train_cfg.max_epochs=2"]
    with begun(root, tmp_path, slow, b"asleep", *options) as run:
        run.send_signal(signal.SIGTERM)
        run.send_signal(signal.SIGTERM)  # as `timeout` does
        time.sleep(1.0)
        assert run.poll() is None, "the step is being finished"
        run.send_signal(signal.SIGTERM)
        printed, _ = run.communicate(timeout=10)
        assert run.returncode == -signal.SIGTERM and b"Traceback" not in printed
    assert (tmp_path / "run" / "training.lock").exists(), "which the next run takes over"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_a_signal_to_the_whole_group_to_the_training(root, tmp_path, number):
    """Ctrl-C in a terminal reaches every process; a worker that died of it would break the step off."""
    config = write_config(tmp_path, workers=2, train=40)
    options = ["train_cfg.max_epochs=99", "val_dataloader.num_workers=1"]
    with begun(root, tmp_path, config, b"Epoch(train)", *options) as run:
        os.killpg(run.pid, number)
        printed, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    text = printed.decode()
    assert "Traceback" not in text and "DataLoader" not in text and f"{number.name}: the training ends after" in text
    assert list((tmp_path / "run").glob("iter_*.pth"))
