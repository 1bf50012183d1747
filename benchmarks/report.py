"""Measurements as text."""

from benchmarks.model import Measured
from benchmarks.ratios import Ratio

MEGABYTE = 1 << 20


def model_report(found: Measured, peer: str | None) -> str:
    """One line for each metric."""
    lines = []
    if peer is not None:
        lines += [f"compared   {found.agreed}", f"ratio      {found.ratio} of {peer}'s time over ours"]
    lines.append(f"ours       {seconds(found.seconds)}, {found.memory[0] / MEGABYTE:.0f} MiB beside the model")
    if peer is not None:
        lines.append(f"{peer:<10} {seconds(found.ratio.theirs)}, {found.memory[1] / MEGABYTE:.0f} MiB beside the model")
    whose = f"{peer}'s model" if peer else "our model"
    lines.append(
        f"GEMM peak  {found.peak / 1e9:.0f} GFLOP/s; {found.flops / 1e9:.1f} GFLOP of {whose} / our time is "
        f"{found.share:.2f} of it"
    )
    return "\n".join(lines)


def rate_report(ratio: Ratio | None, ours: float, peer: str | None, unit: str) -> str:
    """Items per second."""
    if ratio is None:
        return f"ours       {1 / ours:.1f} {unit}"
    return f"ratio      {ratio}\nours       {1 / ratio.ours:.1f} {unit}\n{peer:<10} {1 / ratio.theirs:.1f} {unit}"


def time_report(ratio: Ratio, peer: str) -> str:
    """Seconds."""
    return f"ratio      {ratio}\nours       {seconds(ratio.ours)}\n{peer:<10} {seconds(ratio.theirs)}"


def seconds(value: float) -> str:
    """'1.234 s' or '12.3 ms'."""
    return f"{value:.3f} s" if value >= 0.1 else f"{value * 1e3:.2f} ms"
