"""The mask of a region: a small fully convolutional network (Mask R-CNN, arXiv 1703.06870, section 3).

Shape letters: N regions, P positive ones, K classes, C channels, s side of the pooled map, m = 2 s that of the mask.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevit.errors import DataError
from densevit.models.heads.roi_part import RoIPart
from densevit.models.layers.conv_tower import conv_tower
from densevit.models.losses.detection import mask_loss
from densevit.ops.cropped_masks import marked
from densevit.ops.roi_align import as_rois, crop_masks
from densevit.structures import DataSample


class RoIMask(RoIPart):
    """Pooled maps through convolutions and one doubling to a mask a class.

    Args:
        in_channels: channels of the incoming maps.
        in_strides: their strides.
        num_classes: K.
        pooling: see RoIPart; the pooled map's side is 14.
        num_convs: 3x3 convolutions at the pooled map's size.
        channels: their channels.
        norm: after each of them: None, 'LN' (over the channels) or 'BN' (over the regions of a batch).
        class_agnostic: one mask a region instead of one a class.
        loss_weight: factor of the mask loss.
        threshold: probability from which on a pixel belongs to a predicted mask.
    """

    def __init__(
        self,
        in_channels: int,
        in_strides: Sequence[int],
        num_classes: int,
        pooling: Mapping | None = None,
        num_convs: int = 4,
        channels: int = 256,
        norm: str | None = None,
        class_agnostic: bool = False,
        loss_weight: float = 1.0,
        threshold: float = 0.5,
    ):
        super().__init__("mask.pooling", in_strides, pooling, size=14)
        self.class_agnostic, self.loss_weight, self.threshold = class_agnostic, loss_weight, threshold
        widths = [in_channels, *[channels] * num_convs]
        self.convs = conv_tower(widths, norm)
        self.upsample = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, 1 if class_agnostic else num_classes, 1)
        for conv in (self.upsample, self.logits):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)

    def forward(self, pooled: Tensor, labels: Tensor | None = None) -> Tensor:
        """pooled: (N, C, s, s). labels: (N,) int64. Returns logits (N, m, m), each region's of its class alone, or of
        all classes (N, K, m, m) where there are no labels."""
        x = self.convs(pooled)
        if labels is None:
            return self.logits(self.upsample(x).relu_()).float()
        if self.class_agnostic:
            labels = torch.zeros_like(labels)
        # kernels of the doubling do not overlap: each location of x gives 2 x 2 by products of its own, and what moves
        # to its place in the mask is one logit of each, not its channels
        kernel = self.upsample.weight.permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None]  # (2 * 2 * C, C, 1, 1)
        x = F.conv2d(x, kernel, self.upsample.bias.repeat(4)).relu_()
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (4, -1))  # (N, s * s, 2 * 2, C)
        weight = self.logits.weight[labels, :, 0, 0]  # (N, C): a mask a region instead of K
        logits = (pixels.flatten(1, 2) @ weight[:, :, None])[..., 0] + self.logits.bias[labels, None]  # (N, s * s * 4)
        masks = logits.float().view(len(x), *x.shape[2:], 2, 2).transpose(2, 3)  # (N, s, 2, s, 2)
        return masks.flatten(3).flatten(1, 2)  # (N, 2 s, 2 s)

    def loss(
        self,
        features: Sequence[Tensor],
        boxes: Sequence[Tensor],
        ground_truth: Sequence[Tensor],
        samples: Sequence[DataSample],
    ) -> Tensor:
        """The mask loss of the positive regions of each image: boxes (P_i, 4), numbers of their true objects (P_i,).

        It is the mean over the regions of the whole batch, over all processes. A region of an object whose mask is
        empty does not count: what is there is not known.
        """
        labels = torch.cat(
            [s.gt_instances.labels[index] for index, s in zip(ground_truth, samples, strict=True)]
        )  # (P,)
        targets = self.targets(boxes, ground_truth, samples)
        logits = self(self.pool(features, as_rois(boxes)), labels)
        known = [marked(s.gt_instances.masks, index) for index, s in zip(ground_truth, samples, strict=True)]
        return self.loss_weight * mask_loss(logits, targets, torch.cat(known))

    @torch.no_grad()
    def targets(self, boxes: Sequence[Tensor], ground_truth: Sequence[Tensor], samples: Sequence[DataSample]) -> Tensor:
        """The true masks inside the regions, as `loss` takes them: (P, m, m) float32 of 0 and 1."""
        targets = []
        for box, index, sample in zip(boxes, ground_truth, samples, strict=True):
            if "masks" not in sample.gt_instances:
                raise DataError(
                    "the training data has no masks, which Mask R-CNN learns from: set with_masks=True "
                    "of the dataset (and of LoadAnnotations), or use a head of boxes alone."
                )
            targets.append(crop_masks(sample.gt_instances.masks, box, index, 2 * self.pooling["size"]))  # (P_i, m, m)
        return torch.cat(targets)

    def probabilities(self, features: Sequence[Tensor], rois: Tensor, labels: Tensor) -> Tensor:
        """How probably each pixel of a region (N, 5) belongs to its object of class (N,): (N, m, m)."""
        return self(self.pool(features, rois), labels).sigmoid()
