"""Maps of large images put together from overlapping windows.

Shape letters: B images, K channels of a map, H, W size of the network's input, h, w size of a window.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.protocols import Inference, Losses
from densevit.registry import MODELS
from densevit.structures import DataSample

Maps = dict[str, Tensor]


@MODELS.register_module()
class SlidingWindow(Inference):
    """An image passes through the network in windows, and the dense heads' maps are averaged where windows overlap.

    As mmsegmentation does it: windows begin every `stride` pixels, the last one of a row or column is moved back to end
    at the border, and where the image is smaller than a window the window is as small, nothing is padded. What heads
    predict at each pixel (logits, meters) is summed over the windows and divided by their number.

    Args:
        window: side of a window in pixels, or (height, width).
        stride: from one window to the next in pixels, or (down, right); at most the window's side.
        at_once: how many windows go through the network together; memory grows with it.

    Raises:
        ConfigError: windows like that would leave gaps.
    """

    dense_heads_only = True

    def __init__(self, window: int | Sequence[int], stride: int | Sequence[int], at_once: int = 4) -> None:
        self.window, self.stride, self.at_once = _pair(window), _pair(stride), at_once
        if at_once < 1 or min(self.stride) < 1 or any(s > w for s, w in zip(self.stride, self.window, strict=True)):
            raise ConfigError(
                f"SlidingWindow cannot go over an image in windows of {window} pixels by steps of {stride}, {at_once} "
                "at once: it takes a stride from 1 to the window's side, and at least one window."
            )

    def maps(self, model: nn.Module, images: Tensor) -> Maps:
        """The dense heads' maps (B, K, H, W) of images (B, 3, H, W)."""

        def network(crops: Tensor) -> Maps:
            maps = model.dense_maps(crops)
            return {name: head.enlarge(maps[name], crops.shape[2:]) for name, head in model.heads()}

        return self.average(network, images)

    def predict(
        self, model: nn.Module, images: Tensor, samples: list[DataSample], with_losses: bool = False
    ) -> tuple[list[DataSample], Losses | None]:
        """The samples with predictions, and the losses of the averaged maps: the whole image may be more than the
        network can take at once."""
        maps = self.maps(model, images)
        losses = model.loss_of_maps(maps, samples) if with_losses else None
        return model.predict_from_maps(maps, samples), losses

    def average(self, network: Callable[[Tensor], Maps], images: Tensor) -> Maps:
        """The maps (B, K, H, W) of images (B, 3, H, W), averaged over windows.

        Args:
            network: gives the maps by name, (n, K, h, w) each, of crops (n, 3, h, w).
            images: what the network takes.
        """
        (rows, height), (columns, width) = (
            window_starts(*sides) for sides in zip(images.shape[2:], self.window, self.stride, strict=True)
        )
        locations = [(image, top, left) for top in rows for left in columns for image in range(len(images))]
        if len(locations) == len(images):
            return network(images)
        totals: Maps = {}
        for first in range(0, len(locations), self.at_once):
            chosen = locations[first : first + self.at_once]
            crops = torch.stack([images[i, :, y : y + height, x : x + width] for i, y, x in chosen])  # (n, 3, h, w)
            for name, found in network(crops.contiguous(memory_format=torch.channels_last)).items():
                if name not in totals:
                    totals[name] = found.new_zeros((len(images), found.shape[1], *images.shape[2:]))
                for (i, y, x), values in zip(chosen, found, strict=True):
                    totals[name][i, :, y : y + height, x : x + width] += values
        down, right = (
            _counts(starts, length, side)
            for starts, length, side in zip((rows, columns), (height, width), images.shape[2:], strict=True)
        )
        counts = (down[:, None] * right).to(images.device)  # (H, W): windows over each pixel
        return {name: total.div_(counts) for name, total in totals.items()}


def window_starts(side: int, window: int, stride: int) -> tuple[list[int], int]:
    """Where the windows along one side begin, and how long they are, in pixels."""
    if side <= window:
        return [0], side
    count = math.ceil((side - window) / stride) + 1
    return [min(i * stride, side - window) for i in range(count)], window


def _counts(starts: Sequence[int], length: int, side: int) -> Tensor:
    """(side,): how many windows lie over each pixel along one side."""
    counts = torch.zeros(side)
    for start in starts:
        counts[start : start + length] += 1
    return counts


def _pair(sides: int | Sequence[int]) -> tuple[int, int]:
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return int(height), int(width)
