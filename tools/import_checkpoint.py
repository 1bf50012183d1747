"""`densevit convert` in a checkout: python tools/import_checkpoint.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("convert")
