"""`python -m densevit`: the same as the command `densevit`."""

from densevit.cli import main

if __name__ == "__main__":
    main()
