"""One module for each project, run in a process of its own and maybe in an environment without densevit.

So these modules import each other by relative names, and beside torch and numpy only their project: in the process the
package is called `benchmark_backends`, wherever it lies.
"""
