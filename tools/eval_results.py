"""`densevit evaluate` in a checkout: python tools/eval_results.py --help."""

from densevit.cli import run_command

if __name__ == "__main__":
    run_command("evaluate")
