"""What the heads of pixel maps (classes, depth) share: bringing maps to the truth's size and to the original image's.

Shape letters: B images, K channels of the map, h, w its size, H, W size of the batch, H0, W0 of an original image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from densevit.models.restore import restore_map
from densevit.structures import DataSample


class PixelMapHead(BaseModule):
    """A head whose `forward(features)` gives one map (B, K, h, w) at the stride of the finest map that comes in.

    A subclass sets `truth` and `result`, the fields of DataSample it learns from and fills, and defines
    `map_loss(maps (B, K, H, W), truth (B, H, W))` and `values(map (K, H0, W0))`.
    """

    truth: str
    result: str

    def __init__(self, in_strides: Sequence[int], init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.stride = in_strides[0]

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """The losses at the resolution of the truth (B, H, W)."""
        truth = torch.stack([sample.get(self.truth) for sample in samples])
        return self.map_loss(enlarge(self(features), truth.shape[1:]), truth)

    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[dict[str, Tensor]]:
        """The field `result` of each image, in the original image's frame."""
        maps = self(features).float()
        maps = enlarge(maps, (maps.shape[2] * self.stride, maps.shape[3] * self.stride))
        return [{self.result: self.values(restore_map(x, sample))} for x, sample in zip(maps, samples, strict=True)]


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(B, K, h, w) -> (B, K, *size), bilinear, align_corners False."""
    return maps if maps.shape[2:] == tuple(size) else F.interpolate(maps, size=tuple(size), mode="bilinear")
