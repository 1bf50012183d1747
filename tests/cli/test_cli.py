"""The `densevit` command: quick help, exit codes, and that files of tools/ are the same commands."""

import os
import subprocess
import sys
import time

import pytest

from densevit.cli import COMMANDS, module
from densevit.engine.config import read_config


@pytest.fixture
def densevit(root, tmp_path):
    """Runs `python -m densevit` in an empty folder."""

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "densevit", *words]
        env = dict(os.environ, PYTHONPATH=str(root))
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)

    return run


def test_help_lists_every_command_and_imports_neither_torch_nor_numpy(densevit, root):
    shown = densevit("--help")
    assert shown.returncode == 0
    assert all(f"    {command} " in shown.stdout or f"    {command}\n" in shown.stdout for command in COMMANDS)
    code = "import sys; sys.argv = ['densevit', '--help']\nfrom densevit.cli import main\ntry: main()\n"
    code += "except SystemExit: pass\nprint([m for m in ('torch', 'numpy', 'mmengine') if m in sys.modules])"
    env = dict(os.environ, PYTHONPATH=str(root))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n")


def test_help_is_quick(densevit):
    densevit("--help")  # compiles
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        densevit("train", "--help")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0  # 0.1 s on an idle machine


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_describes_itself(densevit, command):
    shown = densevit(command, "--help")
    assert shown.returncode == 0 and module(command).__doc__.split("\n")[0] in shown.stdout


def test_exit_codes(densevit):
    unknown = densevit("trian")
    assert unknown.returncode == 2 and "'train'" in unknown.stderr
    missing = densevit("train", "no_such_recipe")
    assert missing.returncode == 2 and missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1


def test_a_recipe_is_copied_into_one_file_that_reads_alike(densevit, tmp_path):
    done = densevit("config", "pvt_retinanet_scenes", "--out", "mine.py")
    assert done.returncode == 0, done.stderr
    mine, shipped = read_config(tmp_path / "mine.py"), read_config("pvt_retinanet_scenes")
    assert mine.to_dict() == shipped.to_dict()
    again = densevit("config", "pvt_retinanet_scenes", "--out", "mine.py")
    assert again.returncode == 2 and "not overwritten" in again.stderr


def test_all_recipes_are_listed_and_a_closed_pipe_is_no_traceback(root):
    command = f"{sys.executable} -m densevit config | head -2"
    env = dict(os.environ, PYTHONPATH=str(root))
    done = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.count("\n") == 2 and "Traceback" not in done.stderr


def test_version_names_what_a_bug_report_needs(densevit):
    shown = densevit("version").stdout
    for word in ("densevit", "python", "torch", "mmengine", "GPUs"):
        assert f"\n{word}" in f"\n{shown}"


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("tools/train.py", "train"),
        ("tools/test.py", "test"),
        ("tools/check_data.py", "check-data"),
        ("tools/eval_results.py", "evaluate"),
        ("tools/import_checkpoint.py", "convert"),
        ("tools/model_info.py", "info"),
        ("demo/image_demo.py", "predict"),
    ],
)
def test_the_files_of_a_checkout_are_the_same_commands(densevit, root, tool, command):
    env = dict(os.environ, PYTHONPATH=str(root))
    done = subprocess.run([sys.executable, root / tool, "--help"], env=env, capture_output=True, text=True, timeout=60)
    after = densevit(command, "--help").stdout.split("positional arguments")[1]
    assert done.stdout.split("positional arguments")[1] == after
