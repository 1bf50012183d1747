"""The `densevit` command: one module a subcommand, each with `add_arguments(parser)` and `run(args)`.

Modules import argparse alone at their top, so that `densevit --help` is quick; what a command needs is imported when it
runs. The files of tools/ and demo/ are the same commands for people in a checkout.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from densevit.errors import exit_on_user_error

COMMANDS = (
    "train",
    "test",
    "predict",
    "check-data",
    "convert-data",
    "evaluate",
    "convert",
    "info",
    "config",
    "version",
)


def module(command: str) -> ModuleType:
    """The module of a subcommand."""
    return importlib.import_module(f"densevit.cli.{command.replace('-', '_')}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `densevit` with all of its subcommands."""
    parser = argparse.ArgumentParser(
        prog="densevit", description="Vision transformers as dense predictors: detection, segmentation and depth."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        _describe(commands.add_parser(command, help=_title(module(command))), module(command))
    return parser


def _title(command: ModuleType) -> str:
    """The first line of a command's docstring, as a help text."""
    line = command.__doc__.split("\n")[0].removesuffix(".")
    return line[:1].lower() + line[1:]


def _describe(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    parser.description, parser.formatter_class = command.__doc__, argparse.RawDescriptionHelpFormatter
    command.add_arguments(parser)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `densevit` with these arguments (default: those of the process). Exit codes: 0 done, 1 a bug of ours with its
    traceback, 2 something that the user can fix, 130 interrupted."""
    parser = build_parser()
    try:
        import argcomplete
    except ImportError:
        pass
    else:
        argcomplete.autocomplete(parser)
    args = parser.parse_args(arguments)
    _run(args.command, args)


def run_command(command: str) -> None:
    """Run one subcommand with the arguments of the process, as the files of tools/ and demo/ do."""
    parser = argparse.ArgumentParser(prog=sys.argv[0])
    _describe(parser, module(command))
    _run(command, parser.parse_args())


def _run(command: str, args: argparse.Namespace) -> None:
    try:
        with exit_on_user_error():
            module(command).run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
