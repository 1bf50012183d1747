"""Every reader of files takes random and damaged ones: a result or one sentence, no crash, no hang, no memory."""

import json
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("hypothesis")

READERS = (
    "annotations",
    "polygons",
    "run lengths",
    "results",
    "images",
    "class maps",
    "class files",
    "depth",
    "config text",
    "carried configurations",
    "pickles",
    "safetensors",
    "options",
    "config files",
)


def fuzz(root, folder, seconds: float, examples: int, seed: int) -> dict:
    """What fuzz.py says of each reader; one that it does not come back from has a fault too."""
    command = [sys.executable, root / "tests" / "reliability" / "fuzz.py", folder, seconds, examples, seed]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (root, root / "tests"))), OMP_NUM_THREADS="1")
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=1800)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = {line["reader"]: line for line in lines if "reader" in line}
    begun = [line["begun"] for line in lines if "begun" in line]
    if begun and begun[-1] not in found:
        example = (folder / "example.txt").read_text()
        found[begun[-1]] = dict(examples=0, fault=f"exit code {done.returncode} in {example}: {done.stderr[-1500:]}")
    assert begun, done.stderr[-2000:]
    return found


@pytest.fixture(scope="module")
def found(root, tmp_path_factory):
    return fuzz(root, tmp_path_factory.mktemp("fuzz"), seconds=2.0, examples=25, seed=0)


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_a_result_or_one_sentence(found, reader):
    """The same examples each time; no other exception, signal, 20 seconds or 2 GB."""
    assert reader in found, f"a reader before it ended the process: {list(found)[-1]}"
    assert found[reader]["fault"] is None, found[reader]["fault"]
    assert found[reader]["examples"] > 0


@pytest.mark.slow
def test_two_minutes_of_new_examples_find_no_fault(root, tmp_path):
    """Other examples each time; the seed is in the message."""
    seed = int(time.time())
    found = fuzz(root, tmp_path, seconds=120 / len(READERS), examples=100_000, seed=seed)
    assert set(found) == set(READERS)
    faults = {name: report["fault"] for name, report in found.items() if report["fault"]}
    assert not faults, f"seed {seed}: {faults}"
