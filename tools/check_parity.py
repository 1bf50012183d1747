#!/usr/bin/env python
"""Compare our numbers with those of other projects' own code: tests/parity does it, see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from parity.command import main

if __name__ == "__main__":
    main()
