"""Arguments that several commands have in common."""

import argparse


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="config file, or the name of a shipped recipe")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data, instead of the config's")
    add_cfg_options(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    text = "override config values"
    parser.add_argument("--cfg-options", nargs="+", action="extend", metavar="KEY=VALUE", help=text)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def add_compile(parser: argparse.ArgumentParser) -> None:
    text = "torch.compile the model: takes minutes, and pays off for many images of few sizes"
    parser.add_argument("--compile", action="store_true", help=text)


def add_format(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("folders in other formats")
    group.add_argument("--format", metavar="NAME", help="of the folder, where two readings fit: coco, yolo, voc, ...")
    group.add_argument(
        "--val-fraction", type=float, default=0.2, help="held out where there is no val split (default: 0.2)"
    )
    group.add_argument("--split-seed", type=int, default=0, help="random seed of that split (default: 0)")
    group.add_argument("--write-split", action="store_true", help="store that split beside the data")


def folder_data(folder: str, args: argparse.Namespace, task: str | None = None, strict: bool = True):
    """The images and labels of a folder, and on the screen what it was taken for.

    Raises:
        ConfigError, DataError: see `densevit.datasets.formats.read_folder`.
    """
    from densevit.datasets.formats import read_folder, write_split
    from densevit.errors import ConfigError, printable

    if not 0 < args.val_fraction < 1:
        raise ConfigError(f"--val-fraction is a part of the images, between 0 and 1, not {args.val_fraction:g}.")
    data = read_folder(folder, args.format, task, args.split_seed, args.val_fraction, strict)
    print("\n".join(map(printable, data.summary().split("\n"))))
    if args.write_split:
        print(printable(f"the split is stored in {write_split(data)}"))
    return data


def config_of(args: argparse.Namespace):
    """The config that the arguments name, with the command line's changes.

    Raises:
        ConfigError: see `densevit.engine.config.read_config`.
    """
    from densevit.engine.config import parse_options, read_config

    return read_config(args.config, parse_options(args.cfg_options), getattr(args, "data_root", None))


def runner_config(args: argparse.Namespace):
    """`config_of` for a command that builds a Runner: launcher and work folder set."""
    import os

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = config_of(args)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get("work_dir")
    return config
