"""The curves of a training, from the logs that MMEngine's Runner leaves in the work folder."""

import csv
import json
from pathlib import Path

from densevit.errors import DataError
from densevit.visualization.io import write_plot

# what a log row holds beside losses and metrics
NO_CURVES = {"epoch", "iter", "step", "time", "data_time", "memory", "base_lr", "momentum"}


def logs_in(work_dir: Path) -> list[Path]:
    """The logs of all parts of a training, in their order."""
    return sorted(Path(work_dir).glob("*/vis_data/scalars.json"))


def read_log(work_dir: Path) -> list[dict]:
    """Rows of all parts of a training, one an iteration that was logged, by rising `step`.

    A part that was resumed from an earlier checkpoint replaces what it repeats.

    Raises:
        DataError: there is no log, or one of its lines cannot be read.
    """
    rows: dict[int, dict] = {}
    for path in logs_in(work_dir):
        part: dict[int, dict] = {}
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                row = json.loads(line)
                part.setdefault(int(row["step"]), {}).update(row)
            except (ValueError, KeyError, TypeError):
                raise DataError(f"line {number} of {path} is no row of a log: remove it.") from None
        if part:
            rows = {step: row for step, row in rows.items() if step < min(part)} | part
    if not rows:
        raise DataError(f"{work_dir} holds no log of a training (*/vis_data/scalars.json); give its work folder.")
    return [rows[step] for step in sorted(rows)]


def write_table(rows: list[dict], path: Path) -> None:
    """One line a logged iteration, one column a value, as CSV."""
    names = ["step", *sorted({name for row in rows for name in row} - {"step", "iter", "epoch"})]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def draw_curves(rows: list[dict], path: Path) -> None:
    """A picture with a panel each for losses, validation metrics (where there are any) and learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted({name for row in rows for name in row} - NO_CURVES)
    losses = [name for name in names if "loss" in name]
    scores = [name for name in names if name not in (*losses, "lr", "grad_norm")]
    panels = {"loss": losses, "validation": scores, "learning rate": [name for name in names if name == "lr"]}
    panels = {title: curves for title, curves in panels.items() if curves}
    picture, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 3.8), squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for name in curves:
            points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]
            axis.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 20 else "", markersize=3)
        axis.set(title=title, xlabel="iteration")
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend(fontsize=7)
        if title == "loss":
            axis.set_yscale("log")
    picture.tight_layout()
    write_plot(path, picture)
