"""What `tools/benchmark.py` does: our speed and memory beside those of other projects, on the same weights and input.

Each side of a comparison is a process of its own (`sides`), held at the other end of a pipe (`process`); both are alive
and one runs at a time. What they give is compared before anything is timed (`comparing`).
"""
