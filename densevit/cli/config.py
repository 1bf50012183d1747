"""List the shipped recipes, or copy one into a single file to edit.

densevit config
densevit config pvt_retinanet_coco --out my_retinanet.py
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="name of a shipped recipe; without it all are listed")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file to write (default: print it)")


def run(args: argparse.Namespace) -> None:
    from densevit.engine.config import config_path, shipped_configs
    from densevit.engine.dump_config import flat_config_text
    from densevit.errors import ConfigError

    if args.name is None:
        print("\n".join(f"{name:28} {_title(config_path(name))}" for name in shipped_configs()))
        return
    text = flat_config_text(args.name)
    if args.out is None:
        print(text, end="")
        return
    if args.out.suffix != ".py":
        raise ConfigError(f"--out {args.out}: a config is a file of Python; choose a name that ends in .py.")
    try:
        with args.out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{args.out} is there already and is not overwritten: choose another name.") from None
    print(f"wrote {args.out}: densevit train {args.out}")


def _title(path: Path) -> str:
    """The first clause of a recipe's header."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ").split(". ")[0].rstrip(".")
