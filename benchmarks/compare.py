"""Whether two projects give the same outputs: nothing is timed before they do."""

from collections.abc import Mapping

import numpy as np

from densevit.errors import ConfigError

TOLERANCE = 1e-3
"""Of float32 outputs, relative to the largest value."""
SHARE = 0.98
"""The least share of detections and of pixels that agree: rounding decides where two scores are nearly equal."""


def require_same(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], task: str, peer: str) -> str:
    """Compare outputs; returns a summary of what was compared.

    Args:
        ours, theirs: outputs by name, see `backends`.
        task: 'maps', 'detections' or 'classes'.
        peer: the other project's name.

    Raises:
        ConfigError: they differ by more than TOLERANCE, or agree in less than SHARE.
    """
    if set(ours) != set(theirs):
        raise ConfigError(
            f"outputs differ in kind: ours are {', '.join(sorted(ours))}, those of {peer} {', '.join(sorted(theirs))}; "
            "nothing was timed."
        )
    words = []
    if task == "detections":
        images = sorted({int(name.rsplit("_", 1)[1]) for name in ours if name.startswith("boxes_")})
        shares = [_agreement(_of_image(ours, i), _of_image(theirs, i)) for i in images]
        numbers = [len(theirs[f"boxes_{i}"]) for i in images]
        if not sum(numbers):
            raise ConfigError(f"{peer} finds nothing with the random weights: there is nothing to compare or time.")
        _require(min(shares) >= SHARE, f"of the detections only {min(shares):.1%} agree", peer)
        words.append(f"{min(shares):.1%} of {sum(numbers)} detections agree")
    worst = {
        name: relative_error(ours[name], theirs[name])
        for name in ours
        if name.startswith(("map_", "logits", "loss")) and name in theirs
    }
    for name, error in worst.items():
        _require(error <= TOLERANCE, f"{name} differs by {error:.1e} of its largest value", peer)
    if worst:
        words.append(f"numbers within {max(worst.values()):.1e}")
    pixels = [name for name in ours if name.startswith("pred_")]
    if pixels:
        share = min(float((ours[name] == theirs[name]).mean()) for name in pixels)
        _require(share >= SHARE, f"of the semantic classes only {share:.1%} agree", peer)
        words.append(f"{share:.2%} of the semantic classes agree")
    return ", ".join(words)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max|ours - theirs| / max|theirs|; infinite where shapes differ or a value is not finite."""
    if ours.shape != theirs.shape:
        return float("inf")
    largest = max(float(np.abs(theirs).max(initial=0)), 1e-12)
    error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / largest
    return error if np.isfinite(error) else float("inf")


def _require(fits: bool, what: str, peer: str) -> None:
    if not fits:
        raise ConfigError(
            f"ours and {peer} do not give the same on the same weights and images: {what}; nothing was timed. "
            "Is it the same model?"
        )


def _of_image(arrays: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    names = ("boxes", "scores", "labels", "masks")
    return {name: arrays[f"{name}_{i}"] for name in names if f"{name}_{i}" in arrays}


def _agreement(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """The share of detections with a match in the other project: the same class, score, box and mask."""
    number = max(len(ours["boxes"]), len(theirs["boxes"]))
    if not number:
        return 1.0
    extent = np.abs(theirs["boxes"]).max(initial=1)
    alike = ours["labels"][:, None] == theirs["labels"][None]
    alike &= np.abs(ours["scores"][:, None] - theirs["scores"][None]) <= TOLERANCE
    alike &= np.abs(ours["boxes"][:, None] - theirs["boxes"][None]).max(-1) <= TOLERANCE * extent
    if "masks" in ours and alike.any():
        if ours["masks"].shape[1:] != theirs["masks"].shape[1:]:
            return 0.0
        for i, k in zip(*np.nonzero(alike), strict=True):
            alike[i, k] = _overlap(ours["masks"][i], theirs["masks"][k]) >= SHARE
    return min(alike.any(1).sum(), alike.any(0).sum()) / number


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks as packed bits."""
    union = np.unpackbits(a | b).sum()
    return 1.0 if not union else float(np.unpackbits(a & b).sum() / union)
