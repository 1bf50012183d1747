"""Between tokens (B, h*w, C) and maps (B, C, h, w). Both directions are views: a map seen so is channels-last."""

from torch import Tensor


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h*w, C), (h, w) -> (B, C, h, w)."""
    # in this order also a batch of one has the strides by which convolutions know a channels-last map
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def to_tokens(image: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h*w, C)."""
    return image.flatten(2).transpose(1, 2)
