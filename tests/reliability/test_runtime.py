"""Promises 28 to 30 of docs/reliability.md: runs that repeat, several processes as one, memory that does not grow."""

import json
import os
import subprocess
import sys

import pytest
import torch
from short_runs import losses, train, weights, write_config


def test_two_runs_of_one_seed_are_equal_whatever_the_number_of_workers(tmp_path):
    """(28) Losses, weights and metrics to the last bit on a CPU; another seed is another run."""
    config = write_config(tmp_path)
    options = dict(train_cfg__max_epochs=1)
    first = train(config, tmp_path / "first", **options)
    again = train(config, tmp_path / "again", train_dataloader__num_workers=2, **options)
    other = train(config, tmp_path / "other", randomness__seed=4, **options)
    assert losses(tmp_path / "first") == losses(tmp_path / "again") != losses(tmp_path / "other")
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(again).values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(weights(first).values(), weights(other).values(), strict=True))
    assert first.message_hub.get_info("best_score") == again.message_hub.get_info("best_score")


EPOCHS = """
import json, os, sys
sys.path[:0] = [{tests!r}]
import torch
from pathlib import Path
from mmengine.hooks import Hook
from short_runs import write_config
from densevit.engine.build_runner import build_runner
from densevit.engine.config import read_config

torch.set_num_threads(1)
folder = Path({folder!r})
config = write_config(folder, workers={workers}, train=16, val=4)
cfg = read_config(config, {{"train_cfg.max_epochs": {epochs}, "default_hooks.logger.interval": 4}})
cfg.work_dir = str(folder / "run")
runner, used = build_runner(cfg), []

class Count(Hook):
    def after_train_epoch(self, runner):
        pages = int(open("/proc/self/statm").read().split()[1])
        children = open(f"/proc/self/task/{{os.getpid()}}/children").read().split()
        used.append((pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd")), len(children)))

runner.register_hook(Count(), priority="LOWEST")
runner.train()
print(json.dumps(used))
"""


needs_proc = pytest.mark.skipif(not os.path.isfile("/proc/self/statm"), reason="needs /proc")


def epochs(root, folder, workers: int, number: int) -> list[list[float]]:
    """MB, file descriptors and worker processes after each epoch of a training with validations and checkpoints."""
    script = EPOCHS.format(tests=str(root / "tests"), folder=str(folder), workers=workers, epochs=number)
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@needs_proc
def test_memory_and_file_descriptors_do_not_grow_over_three_epochs(tmp_path, root):
    """(30) After the first epoch, in which everything is allocated once."""
    used = epochs(root, tmp_path, workers=0, number=4)
    (first, fds, workers), *rest = used[0], *used[1:]
    assert max(row[0] for row in rest) - first < 30, used
    assert {row[1] for row in rest} == {fds} and {row[2] for row in rest} == {workers}, used


@needs_proc
@pytest.mark.slow
def test_memory_and_file_descriptors_do_not_grow_over_twelve_epochs_with_workers(tmp_path, root):
    """(30) With processes that are started anew each epoch."""
    used = epochs(root, tmp_path, workers=2, number=12)
    assert max(row[0] for row in used[2:]) - used[1][0] < 20, used
    assert max(row[1] for row in used[2:]) <= used[1][1] and max(row[2] for row in used) <= 3, used
