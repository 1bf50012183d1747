"""Compare our numbers with those of other projects' own code, case by case.

A case is NAME.json with NAME.npz beside it: the reference's configuration in its own terms, the names and shapes of
its state dict (each tensor is generated from its name, so that files stay small), inputs and outputs. Our model is
built from that configuration and loaded by the same code that serves users, `densevit.converters`. Exit code 1 when a
case failed.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a case (.json) or a folder of them")
    parser.add_argument("--tolerance", type=float, help="largest allowed error, instead of each case's own")
    parser.add_argument("--verbose", action="store_true", help="also every output's error, and what was not compared")
    args = parser.parse_args()

    from densevit.errors import DataError, exit_on_user_error

    from .compare import compare

    verdicts = []
    with exit_on_user_error():
        for path in cases(args.paths):
            if not path.is_file() or not path.with_suffix(".npz").is_file():
                raise DataError(f"{path}: no such case (it takes a .json and a .npz of the same name).")
            verdict, text, lines = compare(path, args.tolerance)
            verdicts.append(verdict)
            print(f"{verdict:<4} {path.stem}  {text}", flush=True)
            for line in lines if args.verbose else ():
                print(f"       {line}")
        if not verdicts:
            raise DataError(f"{', '.join(map(str, args.paths))}: no cases (.json with .npz) there.")
    print(f"{verdicts.count('ok')} passed, {verdicts.count('FAIL')} failed, {verdicts.count('SKIP')} skipped")
    sys.exit(1 if "FAIL" in verdicts else 0)


def cases(paths: list[Path]) -> Iterator[Path]:
    """The cases of files and folders, in order of their names."""
    for path in paths:
        if path.is_dir():
            yield from (p for p in sorted(path.glob("*.json")) if p.with_suffix(".npz").is_file())
        else:
            yield path.with_suffix(".json")
