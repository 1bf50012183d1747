"""The background process runs during a measurement and ends with it."""

import subprocess

import pytest

from benchmarks import background_load


@pytest.mark.parametrize("kind", ["busy", "torch"])
def test_the_process_runs_during_the_block_and_ends_with_it(kind, monkeypatch):
    started = []
    plain = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(plain(*a, **k)) or started[-1])
    with pytest.raises(ZeroDivisionError), background_load.background_load(kind):
        assert started[0].poll() is None
        1 / 0  # noqa: B018
    assert started[0].poll() is not None


def test_alone_nothing_is_started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with background_load.background_load(None):
        pass
