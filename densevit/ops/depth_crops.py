"""Pixels of a depth map that are scored: those within the range that can be predicted, and the usual crops as
(first row, end, first column, end)."""

from collections.abc import Callable

from torch import Tensor

Crop = tuple[int, int, int, int]
KB_SIZE = (352, 1216)
"""(height, width) of the KITTI benchmark's images: what the KB crop leaves of a larger one."""


def kb_window(height: int, width: int, size: tuple[int, int] = KB_SIZE) -> Crop:
    """The KB crop of a KITTI image, as large as those of its depth benchmark: at the bottom, in the middle (BTS)."""
    top, left = height - size[0], (width - size[1]) // 2
    return top, height, left, left + size[1]


def garg(height: int, width: int) -> Crop:
    """Garg et al. (arXiv 1603.04992) on KITTI, shares as in every code since Monodepth."""
    return int(0.40810811 * height), int(0.99189189 * height), int(0.03594771 * width), int(0.96405229 * width)


def eigen(height: int, width: int) -> Crop:
    """Eigen et al. (arXiv 1406.2283) on KITTI, shares as in every code since Monodepth."""
    return int(0.3324324 * height), int(0.91351351 * height), int(0.0359477 * width), int(0.96405229 * width)


def nyu_eigen(height: int, width: int) -> Crop | None:
    """Eigen et al. on NYU: the frame of its 480 x 640 images left out; None for other sizes."""
    return (45, 471, 41, 601) if (height, width) == (480, 640) else None


def _within_kb(crop: Callable[[int, int], Crop]) -> Callable[[int, int], Crop | None]:
    """A crop by shares of the KB crop."""

    def inner(height: int, width: int) -> Crop | None:
        top, _, left, _ = kb_window(height, width)
        if top < 0 or left < 0:
            return None
        first, end, start, stop = crop(*KB_SIZE)
        return top + first, top + end, left + start, left + stop

    return inner


def outside_range(depth: Tensor, span: tuple[float, float]) -> Tensor:
    """Where ground truth, in meters, is nearer or farther than can be predicted, and counts as none: bool."""
    return (depth < span[0]) | (depth > span[1])


CROPS: dict[str, Callable[[int, int], Crop | None]] = {
    "nyu_eigen": nyu_eigen,
    "garg": garg,
    "eigen": eigen,
    "kb_garg": _within_kb(garg),
    "kb_eigen": _within_kb(eigen),
}
"""Crop by name, called with height and width; None where it does not fit such an image."""
