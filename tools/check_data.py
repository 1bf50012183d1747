"""`densevit check-data` in a checkout: python tools/check_data.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("check-data")
