"""Workers keep the memory of pictures that they have done with."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from densevit.engine.malloc import keep_freed_memory
kept = keep_freed_memory()
for i in range(220):
    if i == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    first, second = np.ones(3_000_000, np.uint8), np.ones(9_000_000, np.uint8)
    del first, second
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_arrays_of_the_same_size_cost_no_new_pages():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, faults = run.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert int(faults) < 1000
