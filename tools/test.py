"""`densevit test` in a checkout: python tools/test.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("test")
