"""`densevit info` in a checkout: python tools/model_info.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("info")
