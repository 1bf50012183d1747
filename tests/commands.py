"""The tools and the demo as a user types them, and what they say when something is wrong."""

import contextlib
import io
import os
import runpy
import subprocess
import sys


def run_alone(root, tool, *arguments):
    """A command in a process of its own."""
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    command = [sys.executable, root / (tool if "/" in tool else f"tools/{tool}"), *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def run(root, tool, *arguments, cwd=None):
    """A command in this process, which has torch already: seconds less each time."""
    script = root / (tool if "/" in tool else f"tools/{tool}")
    out, err, code, here, path = io.StringIO(), io.StringIO(), 0, os.getcwd(), list(sys.path)
    argv, environ = sys.argv, dict(os.environ)
    try:
        sys.argv = [tool, *map(str, arguments)]
        os.environ["DENSEVIT_CACHE"] = "/nonexistent"
        os.chdir(cwd or here)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            sys.path.insert(0, str(script.parent))
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv, sys.path[:] = argv, path
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environ)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(done) -> str:
    """The one sentence of a command that a user can fix."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def refused_last(done) -> str:
    """The sentence at the end of a command that printed more before it."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]
