"""One training at a time in a work directory."""

import json
import os
import socket
import subprocess
import sys

import pytest
from short_runs import train, write_config

from densevit.engine.work_dir_lock import NAME, acquire, release
from densevit.errors import ConfigError


def process(root, code: str) -> subprocess.Popen:
    env = dict(os.environ, PYTHONPATH=str(root))
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", code], env=env, **pipes)


HOLD = "from densevit.engine.work_dir_lock import acquire; acquire({!r}); print('held', flush=True); input()"


@pytest.fixture
def held(root, tmp_path):
    """A folder that another living process has locked, and that process."""
    holder = process(root, HOLD.format(str(tmp_path)))
    assert holder.stdout.readline() == "held\n"
    yield tmp_path, holder
    holder.kill()
    holder.communicate()


def test_a_folder_in_use_is_refused_before_anything_is_written(held):
    folder, holder = held
    data = folder.parent / f"{folder.name}_data"
    data.mkdir()
    with pytest.raises(ConfigError, match=rf"in use by another training, process {holder.pid} since .*--work-dir"):
        train(write_config(data), folder)
    assert sorted(path.name for path in folder.iterdir()) == [NAME]


def test_the_lock_of_a_killed_process_is_taken_over(held):
    folder, holder = held
    holder.kill()  # it stays a zombie, as nothing has waited for it yet
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    acquire(folder)
    assert json.loads((folder / NAME).read_text())["pid"] == os.getpid()
    release(folder)
    assert not (folder / NAME).exists()


def test_the_end_of_a_process_releases_its_lock(held):
    folder, holder = held
    holder.communicate("\n")
    assert not (folder / NAME).exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}', '{"pid": 0}'])
def test_what_is_no_lock_is_taken_over(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    acquire(tmp_path)
    release(tmp_path)


def test_the_number_of_a_process_that_began_later_is_another_process(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(dict(pid=os.getppid(), host=socket.gethostname(), started="1")))
    acquire(tmp_path)
    release(tmp_path)


def test_another_hosts_lock_is_refused_with_the_way_to_remove_it(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(dict(pid=1, host="elsewhere", started="1", since="yesterday")))
    with pytest.raises(ConfigError, match=r"process 1 on elsewhere since yesterday: remove .*training.lock if"):
        acquire(tmp_path)
    release(tmp_path)
    assert (tmp_path / NAME).exists(), "it is not ours"


def test_of_many_that_find_a_stale_lock_one_gets_it(root, tmp_path):
    (tmp_path / NAME).write_text(json.dumps(dict(pid=2**22 + 1, host=socket.gethostname(), started="1")))
    code = HOLD.format(str(tmp_path)).replace("; acquire", "; input(); acquire", 1)
    holders = [process(root, code) for _ in range(4)]
    for holder in holders:
        holder.stdin.write("\n")
        holder.stdin.flush()
    lines = [holder.stdout.readline() for holder in holders]
    for holder in holders:
        holder.kill()
        holder.communicate()
    assert sorted(lines) == ["", "", "", "held\n"]


def test_a_run_that_ends_and_one_that_breaks_off_release(tmp_path):
    config = write_config(tmp_path)
    train(config, tmp_path / "run", train_cfg__max_epochs=1)
    train(config, tmp_path / "run", resume=True, stop_at=6)
    assert not (tmp_path / "run" / NAME).exists()
