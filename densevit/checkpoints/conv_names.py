"""Names of a convolution with its norm, as blocks of layers/conv_tower.py call them and as others do."""

from densevit.checkpoints.rules import Rule

NORM_NAMES = {"mmseg": "bn", "transformers": "batch_norm"}
"""Source -> its name of the norm beside `conv`."""


def conv_blocks(source: str, theirs: str, ours: str) -> list[Rule]:
    """Rules of the blocks under the pattern `theirs`."""
    return [
        Rule(f"{theirs}.conv.*", f"{ours}.conv.*"),
        Rule(f"{theirs}.{NORM_NAMES[source]}.*", f"{ours}.norm.*"),
    ]
