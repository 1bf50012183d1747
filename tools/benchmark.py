#!/usr/bin/env python
"""Measure speed and memory, alone or compared with another project: benchmarks/ does it, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not in the wheel

from benchmarks.command import main

if __name__ == "__main__":
    main()
