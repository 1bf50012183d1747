"""Two processes on one machine without GPUs train as one process with twice the batch."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from short_runs import losses, write_config

from densevit.checkpoints.reading import read_file
from densevit.engine.distributed import errors_of_one_process
from densevit.errors import DataError, exit_on_user_error


def environment(root: Path, **more: str) -> dict:
    return dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1", **more)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def one(root, config, work_dir, *arguments):
    command = [sys.executable, root / "tools" / "train.py", config, "--work-dir", work_dir, *arguments]
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def two(root, config, work_dir, *arguments):
    done = start_two(root, config, work_dir, *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def start_two(root, config, work_dir, *arguments):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    command = [*torchrun, root / "tools" / "train.py", config, "--work-dir", work_dir, "--launcher", "pytorch"]
    command += arguments
    return subprocess.run(command, env=environment(root), capture_output=True, text=True, timeout=180)


def test_an_error_of_both_processes_is_printed_once(tmp_path, root):
    config = write_config(tmp_path)
    done = start_two(root, config, tmp_path / "run", "--cfg-options", "model.head.stacked_convs=-1")
    assert done.returncode and done.stderr.count("error: ") == 1, done.stderr


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_of_one_process_is_printed_by_that_one(capsys, monkeypatch, rank):
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(SystemExit), exit_on_user_error(), errors_of_one_process():
        raise DataError("its own image")
    assert capsys.readouterr().err == "error: its own image\n"
    with pytest.raises(SystemExit), exit_on_user_error():
        raise DataError("the dataset of both")
    assert capsys.readouterr().err == ("error: the dataset of both\n" if rank == "0" else "")


def last_validation(work_dir: Path) -> dict:
    lines = [json.loads(x) for f in work_dir.glob("*/vis_data/2*.json") for x in f.read_text().splitlines()]
    return [line for line in lines if "coco/bbox_AP" in line][-1]


def test_two_processes_train_and_evaluate_as_one_with_the_doubled_batch(tmp_path, root):
    """Some images hold no object, so that at times one process has none; and 5 images do not go round.

    One test for all of it, as the two trainings take most of its time.
    """
    config = write_config(tmp_path, batch_size=2, drop_path=0.0, train=8, val=5, empty=3)
    options = ["--cfg-options", "train_cfg.max_epochs=2", "val_dataloader.batch_size=1"]
    options += ["model.head.test.score_thr=0.0"]
    one(root, config, tmp_path / "one", *options)
    two(root, config, tmp_path / "two", *options, "train_dataloader.batch_size=1")

    # losses
    wanted, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert wanted.keys() == found.keys() and len(wanted) == 8
    assert max(abs(wanted[step] - found[step]) for step in wanted) <= 1e-5

    # weights: AdamW makes steps of 1e-3 of gradients of 1e-8
    ours, theirs = (read_file(tmp_path / name / "epoch_2.pth") for name in ("one", "two"))
    for name, tensor in ours["state_dict"].items():
        torch.testing.assert_close(tensor, theirs["state_dict"][name], atol=1e-3, rtol=0)

    # metrics: each image is evaluated exactly once
    wanted, found = last_validation(tmp_path / "one"), last_validation(tmp_path / "two")
    metrics = [key for key in wanted if key.startswith("coco/")]
    assert len(metrics) == 12
    assert all(abs(wanted[key] - found[key]) < 1e-3 for key in metrics)
    assert not (Path.cwd() / ".dist_test").exists(), "results go through the process group"

    # RNG state of both
    rng_state = theirs["random_streams"]
    assert len(rng_state) == 2 and not torch.equal(rng_state[0]["torch"], rng_state[1]["torch"])


@pytest.mark.slow
def test_two_processes_resume_exactly(tmp_path, root):
    config = write_config(tmp_path, batch_size=1, drop_path=0.3)
    options = ["--cfg-options", "train_cfg.max_epochs=2", "default_hooks.checkpoint.by_epoch=False"]
    options += ["default_hooks.checkpoint.interval=3", "default_hooks.checkpoint.max_keep_ckpts=9"]
    two(root, config, tmp_path / "run", *options)
    wanted = read_file(tmp_path / "run" / "iter_8.pth")["state_dict"]
    for name in ("iter_8.pth", "iter_6.pth", "iter_4.pth", "last_checkpoint", "last_validated"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    printed = two(root, config, tmp_path / "run", "--resume", *options)
    assert "resumed from" in printed and "iter_3.pth" in printed
    found = read_file(tmp_path / "run" / "iter_8.pth")["state_dict"]
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("receiver", ["torchrun", "one process"])
def test_a_signal_ends_two_processes_at_the_same_step_and_they_resume_exactly(tmp_path, root, receiver):
    config = write_config(tmp_path, batch_size=1, drop_path=0.3, train=24, workers=1)
    options = ["--cfg-options", "train_cfg.max_epochs=2", "default_hooks.checkpoint.max_keep_ckpts=9"]
    two(root, config, tmp_path / "whole", *options)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    command = [
        *torchrun,
        root / "tools" / "train.py",
        config,
        "--work-dir",
        tmp_path / "ended",
        "--launcher",
        "pytorch",
    ]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = subprocess.Popen([*command, *options], env=environment(root), start_new_session=True, **pipes)
    while "Epoch(train) [1][ 3/12]" not in run.stdout.readline():
        assert run.poll() is None
    number = run.pid
    if receiver == "one process":  # the second, which does not write
        ranks = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
        number = next(int(p) for p in ranks if b"\0RANK=1\0" in Path(f"/proc/{p}/environ").read_bytes())
    os.kill(number, signal.SIGTERM)
    printed, _ = run.communicate(timeout=120)
    assert run.returncode != 0 and "SIGTERM: the training ends after iteration" in printed
    (saved,) = (tmp_path / "ended").glob("iter_*.pth")
    assert len(read_file(saved)["random_streams"]) == 2
    printed = two(root, config, tmp_path / "ended", "--resume", *options)
    assert f"resumed from {saved}" in printed
    wanted, found = (read_file(tmp_path / name / "epoch_2.pth")["state_dict"] for name in ("whole", "ended"))
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.slow
def test_slurms_variables_start_the_processes(tmp_path, root):
    """What `srun` sets, with two tasks on this machine and no scontrol to ask."""
    config = write_config(tmp_path, batch_size=1, drop_path=0.0)
    port, runs = free_port(), []
    for rank in range(2):
        slurm = dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS="2", SLURM_NODELIST="localhost")
        env = environment(root, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, **slurm)
        command = [sys.executable, root / "tools" / "train.py", config, "--work-dir", tmp_path / "run"]
        command += ["--launcher", "slurm", "--cfg-options", "train_cfg.max_epochs=1"]
        runs.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    printed = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], printed
    assert "2 x cpu" in printed[0] and read_file(tmp_path / "run" / "epoch_1.pth")["meta"]["world_size"] == 2
