"""What `tools/benchmark.py` does: our speed and memory compared with other projects, on the same weights and input.

Each project runs in a process of its own (`backends`), connected by pipes (`process`); both processes stay alive and
one runs at a time. Their outputs are compared before anything is timed (`compare`).
"""
