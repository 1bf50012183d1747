"""The confusion matrix that a test of pixel classes leaves, as a picture: which class is taken for which."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevit.errors import DataError
from densevit.visualization.io import write_plot

FEW = 25
"""Classes up to which each cell shows its value."""


def read_matrix(path: Path) -> tuple[np.ndarray, list[str]]:
    """(K, K) pixels, ground truth in rows, and the K names, from the JSON file that SemanticMetric writes.

    Raises:
        DataError: the file cannot be read, or is of another kind.
    """
    try:
        content = json.loads(Path(path).read_text())
        matrix, names = np.array(content["matrix"], np.int64), [str(name) for name in content["classes"]]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give confusion_matrix.json of a test.") from None
    except (ValueError, KeyError, TypeError, OverflowError):
        raise DataError(f"{path} is no confusion matrix: give confusion_matrix.json of a test.") from None
    if matrix.shape != (len(names), len(names)) or not names or (matrix < 0).any():
        raise DataError(f"{path} is no confusion matrix: it has {len(names)} classes and the shape {matrix.shape}.")
    return matrix, names


def shares(matrix: np.ndarray) -> np.ndarray:
    """(K, K) float64: of the pixels of class row the share that is taken for class column; nan in rows of no pixels."""
    true = matrix.sum(1, keepdims=True)
    return np.divide(matrix, true, out=np.full(matrix.shape, np.nan), where=true > 0)


def greatest_confusions(matrix: np.ndarray, names: Sequence[str], count: int = 10) -> list[tuple[str, str, float, int]]:
    """(true class, class it is taken for, share of the true class's pixels, pixels), the most pixels first."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    cells = [divmod(int(cell), len(names)) for cell in order]
    part = shares(matrix)
    return [(names[i], names[j], float(part[i, j]), int(wrong[i, j])) for i, j in cells if wrong[i, j]]


def draw_confusion_matrix(matrix: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Write a picture of the matrix: ground truth in rows, each row as shares of its pixels, so that the diagonal is
    each class's accuracy. Colors grow with the root of the share, which shows small ones; classes without a pixel in
    ground truth are gray. Few classes have their values, in per cent, in the cells.

    Args:
        matrix: (K, K) pixels.
        names: of the K classes.
        path: .png, .pdf or .svg.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    part, count = shares(matrix), len(names)
    cell = 0.42 if count <= FEW else 0.15  # inches
    letters = 9 if count <= FEW else 7
    margin = 0.075 * letters / 9 * max(map(len, names)) + 0.5
    side = max(2.5, cell * count)
    picture, axis = pyplot.subplots(figsize=(side + margin + 0.9, side + margin + 0.5), layout="constrained")
    colors = pyplot.get_cmap("viridis").with_extremes(bad="0.85")
    image = axis.imshow(part, cmap=colors, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axis.set_xticks(range(count), names, rotation=90, fontsize=letters)
    axis.set_yticks(range(count), names, fontsize=letters)
    axis.tick_params(length=0, labeltop=count > FEW, labelright=count > FEW)
    axis.set(xlabel="predicted class", ylabel="true class")
    if count <= FEW:
        for i, j in np.argwhere(part >= 0.005):
            ink = "black" if part[i, j] > 0.35 else "white"
            axis.text(j, i, f"{100 * part[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=letters - 1)
    else:
        axis.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axis.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=0.15, alpha=0.4)
        axis.tick_params(which="minor", length=0)
    ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1]
    bar = picture.colorbar(image, ax=axis, ticks=ticks, fraction=0.03, pad=0.02, aspect=40)
    bar.set_ticklabels([f"{tick:.0%}" for tick in ticks])
    bar.set_label("share of the true class's pixels")
    write_plot(path, picture)
