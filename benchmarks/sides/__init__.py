"""What runs in a side's own process, which may be another project's environment without densevit.

So these modules import each other by relative names, and beside torch and numpy only what their project brings: the
process knows the package as `benchmark_sides`, wherever it lies.
"""
