"""What the heads of pixel maps (classes, depth) share: bringing maps to the ground truth's size and to the original
image's.

Shape letters: B images, K channels of the map, h, w its size, H, W size of the batch, H0, W0 of an original image.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.postprocess import rescale_map
from densevit.models.protocols import DenseHead as DenseHeadProtocol
from densevit.registry import MODELS
from densevit.structures import DataSample


class DenseHead(BaseModule, DenseHeadProtocol):
    """A head whose `forward(features)` gives one map (B, K, h, w).

    A subclass sets `target_key` and `pred_key`, the fields of DataSample it learns from and fills; for maps that are
    not what is predicted, such as logits, it also defines `restore`, `tta_scores` and `tta_decide`.

    Args:
        stride: of the map that `forward` gives.
        losses: config of a loss, called as loss(maps, ground truth), or a list of them.
        loss_weight: factor of them all.
        align_corners: of the bilinear resizes of this map.
    """

    target_key: str
    pred_key: str

    def __init__(
        self,
        stride: float,
        losses: Mapping | Sequence[Mapping],
        loss_weight: float = 1.0,
        align_corners: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.stride, self.loss_weight, self.align_corners = stride, loss_weight, align_corners
        self.losses = nn.ModuleList(MODELS.build(x) for x in ([losses] if isinstance(losses, Mapping) else losses))

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """The losses at the resolution of the ground truth (B, H, W)."""
        return self.loss_by_feat(self(features), samples)

    def loss_by_feat(self, maps: Tensor, samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """The losses of maps (B, K, h, w) that cover the network's input."""
        ground_truth = torch.stack([sample.get(self.target_key) for sample in samples])  # (B, H, W)
        return self.map_loss(self.enlarge(maps, ground_truth.shape[1:]), ground_truth)

    def map_loss(self, maps: Tensor, ground_truth: Tensor) -> dict[str, Tensor]:
        """What the losses give for maps and ground truth of one size; losses of one name are added up."""
        found: dict[str, Tensor] = {}
        for loss in self.losses:
            value = self.loss_weight * loss(maps, ground_truth)
            found[loss.name] = found[loss.name] + value if loss.name in found else value
        return found

    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[dict[str, Tensor]]:
        """The field `pred_key` of each image, in the original image's frame."""
        maps = self(features).float()
        # of the network's input, where samples do not state it
        sides = tuple(round(side * self.stride) for side in maps.shape[2:])
        return self.rescale_fields(maps, samples, samples[0].get("batch_input_shape", sides))

    def rescale_fields(
        self, maps: Tensor, samples: Sequence[DataSample], size: Sequence[int] | None = None
    ) -> list[dict[str, Tensor]]:
        """The field `pred_key` of each image from maps (B, K, h, w) that cover the network's input of `size` (H, W);
        None: they have that size."""
        return [{self.pred_key: self.restore(x, sample, size)} for x, sample in zip(maps, samples, strict=True)]

    def restore(self, x: Tensor, sample: DataSample, size: Sequence[int] | None = None) -> Tensor:
        """The map (1, h, w) of one image as `pred_key`: (H0, W0)."""
        return rescale_map(x, sample, size, self.align_corners)[0]

    def tta_scores(self, x: Tensor, sample: DataSample, size: Sequence[int]) -> Tensor:
        """What is averaged over several views of an image, from the map (K, h, w) of one: (K, H0, W0)."""
        return rescale_map(x, sample, size, self.align_corners)

    def tta_decide(self, scores: Tensor) -> Tensor:
        """`pred_key` (H0, W0) from the mean (1, H0, W0) of the augmented versions."""
        return scores[0]

    def enlarge(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """(B, K, h, w) -> (B, K, *size), bilinear."""
        if maps.shape[2:] == tuple(size):
            return maps
        return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=self.align_corners)


def last_map(in_channels: Sequence[int], in_strides: Sequence[int], where: str) -> tuple[int, int]:
    """Channels and stride of the only map that a head takes; ConfigError where several come in."""
    if len(in_channels) != 1:
        raise ConfigError(
            f"{where} looks at one map, but {len(in_channels)} come in: say which with in_index, such as "
            f"in_index={len(in_channels) - 1}"
        )
    return in_channels[0], in_strides[0]
