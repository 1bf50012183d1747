"""kill -9 at any moment, then --resume: the weights, best score and best file of the run that went undisturbed."""

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
MARKS = """
import os, time
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from densevit.engine.checkpointing import CheckpointHook
from densevit.registry import HOOKS, METRICS

@METRICS.register_module()
class Peak(BaseMetric):
    '''Best at the second validation, whatever the weights.'''
    default_prefix = "coco"

    def process(self, data_batch, data_samples):
        print("VALIDATING", flush=True)
        time.sleep(float(os.environ.get("SLOW", 0)))
        self.results.append(0)

    def compute_metrics(self, results):
        from mmengine.logging import MessageHub
        epoch = (MessageHub.get_current_instance().get_info("iter") + 1) // int(os.environ["STEPS"])
        return {"bbox_AP": {1: 0.2, 2: 0.9}.get(epoch, 0.5)}

save = torch.save
def slow_save(*args, **kwargs):
    print("SAVING", flush=True)
    time.sleep(float(os.environ.get("SLOW", 0)))
    return save(*args, **kwargs)
torch.save = slow_save
"""


class Runs:
    """Trainings in processes of their own, by a config whose saves and validations say when they begin."""

    def __init__(self, root, folder, **settings) -> None:
        (folder / "marks.py").write_text(MARKS)
        self.root, self.folder, self.options, self.steps = root, folder, (), settings.get("train", 8) // 2
        self.config = write_config(folder, **settings)
        more = (
            'custom_imports = dict(imports=["marks"], allow_failed_imports=False)\nval_evaluator = dict(type="Peak")\n'
        )
        self.config.write_text(self.config.read_text() + more)

    def begin(self, name, *arguments, slow=0.0):
        path = f"{self.root}:{self.folder}"
        env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", SLOW=str(slow), STEPS=str(self.steps))
        tool = self.root / "tools" / "train.py"
        command = [sys.executable, tool, self.config, "--work-dir", self.folder / name, *arguments, *self.options]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return subprocess.Popen(command, env=env, start_new_session=True, **pipes)

    def finish(self, name, *arguments) -> None:
        run = self.begin(name, *arguments)
        printed, _ = run.communicate(timeout=300)  # not wait: a pipe that is not read fills up
        assert run.returncode == 0, printed[-2000:]

    def kill(self, name, mark: bytes, times=1, after=0.0, slow=0.0) -> str:
        """Resume, and kill some seconds after a line has been printed so often; returns the last line of a step."""
        run, seen, last = self.begin(name, "--resume", slow=slow), 0, b""
        while seen < times:
            line = run.stdout.readline()
            assert line, "the run was over before it could be killed"
            last = line if b"Epoch(train)" in line else last
            seen += bool(last) and mark in line  # not in what is tried before the first step
        time.sleep(after)
        assert run.poll() is None, "the run was over before it could be killed"
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
        return last.decode().split(" INFO - ")[-1].split("  base_lr")[0]

    def compare(self, file) -> int:
        """All tensors, the best score and the best file of both runs are equal; returns the number of tensors."""
        wanted, found = (read_file(self.folder / name / file, check_sums=True) for name in ("whole", "killed"))
        count = 0
        for part in ("state_dict", "ema_state_dict"):
            for name, tensor in wanted.get(part, {}).items():
                assert torch.equal(tensor, found[part][name]), name
                count += 1
        for name, state in wanted["optimizer"]["state"].items():
            assert all(torch.equal(value, found["optimizer"]["state"][name][key]) for key, value in state.items())
            count += len(state)
        infos = [content["message_hub"]["runtime_info"] for content in (wanted, found)]
        assert infos[0]["best_score"] == infos[1]["best_score"] == 0.9
        assert infos[0]["best_ckpt"] == infos[1]["best_ckpt"]
        best = [sorted(p.name for p in (self.folder / name).glob("best_*")) for name in ("whole", "killed")]
        assert best[0] == best[1] == [infos[0]["best_ckpt"]]
        ours, theirs = (read_file(self.folder / name / best[0][0])["state_dict"] for name in ("whole", "killed"))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        return count + len(ours)


@pytest.mark.slow
def test_five_kills_one_in_a_save_and_one_in_a_validation_change_no_bit_of_the_result(tmp_path, root):
    runs = Runs(root, tmp_path, workers=1, train=80)
    runs.options = OPTIONS
    runs.finish("whole")
    rng, table = random.Random(0), []
    moments = [
        ("at random", b"Epoch(train)", dict(times=rng.randrange(3, 15), after=rng.uniform(0, 0.3))),
        ("in a save", b"SAVING", dict(times=rng.randrange(8, 20), slow=0.3, after=0.1)),
        ("in a validation", b"VALIDATING", dict(times=1, slow=0.5, after=0.2)),
        ("at random", b"Epoch(train)", dict(times=rng.randrange(3, 15), after=rng.uniform(0, 0.3))),
        ("at random", b"Epoch(train)", dict(times=rng.randrange(3, 15), after=rng.uniform(0, 0.3))),
    ]
    for what, mark, how in moments:
        table.append((what, runs.kill("killed", mark, **how)))
    runs.finish("killed", "--resume")
    count = runs.compare("iter_120.pth")
    print("\n".join(f"SIGKILL {what:16} after {step}" for what, step in table))
    print(f"{count} tensors, best score and best file equal to the last bit")


@pytest.mark.slow
@pytest.mark.parametrize("by_iteration", [False, True])
def test_the_best_score_survives_a_kill_in_its_validation_and_one_soon_after(tmp_path, root, by_iteration):
    """The second process makes up for the validation and must keep its score although it has saved nothing else yet."""
    runs = Runs(root, tmp_path)
    runs.options = OPTIONS[:1] + OPTIONS[2:3] + [f"{CHECKPOINT}.interval=4"] if by_iteration else []
    runs.finish("whole")
    first = runs.kill("killed", b"VALIDATING", times=3, slow=1.0, after=0.2)  # the second validation's first batch
    assert "[2][4/4]" in first
    second = runs.kill("killed", b"Epoch(train)", times=2)
    assert second.startswith("Epoch(train) [3]")
    runs.finish("killed", "--resume")
    runs.compare("iter_12.pth" if by_iteration else "epoch_3.pth")
