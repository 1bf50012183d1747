"""kill -9 at any moment, then --resume: the weights of the run that was left in peace."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from short_runs import write_config

from densevit.checkpoints.reading import read_file

CHECKPOINT = "default_hooks.checkpoint"
OPTIONS = ["--cfg-options", "ema=True", f"{CHECKPOINT}.by_epoch=False", f"{CHECKPOINT}.interval=1"]


@pytest.mark.slow
def test_five_kills_at_random_moments_change_no_bit_of_the_result(tmp_path, root):
    config = write_config(tmp_path, workers=1, train=160)
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")

    def begin(work_dir, *arguments):
        command = [sys.executable, root / "tools" / "train.py", config, "--work-dir", work_dir, *arguments, *OPTIONS]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return subprocess.Popen(command, env=env, start_new_session=True, **pipes)

    whole = begin(tmp_path / "whole")
    printed, _ = whole.communicate(timeout=300)  # not wait: a pipe that nobody reads fills up
    assert whole.returncode == 0, printed[-2000:]
    rng = random.Random(0)
    for _ in range(5):
        run = begin(tmp_path / "killed", "--resume")
        while b"Epoch(train)" not in run.stdout.readline() and run.poll() is None:
            pass
        time.sleep(rng.uniform(0.0, 1.0))
        assert run.poll() is None, "the run was over before it could be killed"
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
    last = begin(tmp_path / "killed", "--resume")
    printed, _ = last.communicate(timeout=300)
    assert last.returncode == 0, printed[-2000:]
    wanted = read_file(tmp_path / "whole" / "iter_240.pth", check_sums=True)
    found = read_file(tmp_path / "killed" / "iter_240.pth", check_sums=True)
    for part in ("state_dict", "ema_state_dict"):
        for name, tensor in wanted[part].items():
            assert torch.equal(tensor, found[part][name]), name
    for name, state in wanted["optimizer"]["state"].items():
        assert all(torch.equal(value, found["optimizer"]["state"][name][key]) for key, value in state.items())
