"""The process beside a measurement runs as long as that, and no longer."""

import subprocess

import pytest

from benchmarks import company


@pytest.mark.parametrize("kind", ["busy", "torch"])
def test_a_process_runs_beside_the_block_and_ends_with_it(kind, monkeypatch):
    started = []
    plain = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(plain(*a, **k)) or started[-1])
    with pytest.raises(ZeroDivisionError), company.company(kind):
        assert started[0].poll() is None
        1 / 0  # noqa: B018
    assert started[0].poll() is not None


def test_alone_nothing_is_started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with company.company(None):
        pass
