"""`densevit train` in a checkout: python tools/train.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("train")
