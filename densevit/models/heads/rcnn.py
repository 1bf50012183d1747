"""What Mask R-CNN and Cascade R-CNN share: proposals first, masks last, and the parts between built from options."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError, suggest
from densevit.models.heads.roi_box import RoIBox
from densevit.models.heads.roi_mask import RoIMask
from densevit.models.heads.rpn import RPN
from densevit.models.postprocess import rescale_boxes, rescale_masks
from densevit.models.protocols import Head
from densevit.ops.roi_align import as_rois
from densevit.structures import DataSample, InstanceData


class RCNNHead(BaseModule, Head):
    """A head of two stages: RPN, and a subclass's second stage on its proposals.

    A subclass builds its parts with `part`, lists the mask parts in `mask_parts`, and defines
    `roi_losses(features, proposals, samples)` and `detect(features, proposals, samples)`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        rpn: Mapping | None,
        init_cfg: dict | None,
    ):
        super().__init__(init_cfg)
        if len(set(in_channels)) != 1:
            raise ConfigError(
                f"{type(self).__name__} needs maps of equal channels, not {tuple(in_channels)}: put an FPN before"
            )
        self.num_classes = num_classes
        self.maps = dict(in_channels=in_channels[0], in_strides=tuple(in_strides))
        self.rpn = self.part(RPN, "rpn", rpn)

    def part(self, part: type, where: str, given: Mapping | None, **known) -> BaseModule:
        """A part from its options; ConfigError for one that it does not have."""
        known |= self.maps
        options = [name for name in inspect.signature(part).parameters if name not in known]
        for key in given or ():
            if key not in options:
                head = type(self).__name__
                raise ConfigError(
                    f"{head}'s {where} has no {key!r}{suggest(key, options)}: it has {', '.join(options)}"
                )
        return part(**known, **(given or {}))

    @property
    def mask_parts(self) -> Sequence[RoIMask]:
        """The parts whose masks are averaged."""
        raise NotImplementedError

    def roi_parts(self) -> list[tuple[str, nn.Module, tuple[int, int, int], int]]:
        """The parts that read regions: name, part, shape of a pooled region, and how many at most."""
        parts = {name: part for name, part in self.named_modules() if isinstance(part, RoIBox | RoIMask)}
        proposals = self.rpn.test_proposals["max_per_image"]
        kept = min(part.nms["max_per_image"] for part in parts.values() if isinstance(part, RoIBox))
        return [
            (
                name,
                part,
                (self.maps["in_channels"], part.pooling["size"], part.pooling["size"]),
                proposals if isinstance(part, RoIBox) else kept,
            )
            for name, part in parts.items()
        ]

    def compile(self, **options: Any) -> None:
        """torch.compile the RPN: how many regions there are changes from image to image."""
        self.rpn.compile(**options)

    def roi_losses(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """The losses after the proposals (n, 4) of each image."""
        raise NotImplementedError

    def detect(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> list[InstanceData]:
        """Boxes, scores and labels of each image, by falling score, in pixels of the network's input."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """features: L maps (B, C, h, w). Returns the RPN's logits and deltas, what all the rest depends on."""
        return self.rpn(features)

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, Tensor | list[Tensor]]:
        """`loss_rpn_cls` and `loss_rpn_box`, a value a level, and those of `roi_losses`."""
        logits, deltas = self.rpn(features)
        proposals = [boxes for boxes, _ in self.rpn.proposals(logits, deltas, samples)]
        return self.rpn.loss(logits, deltas, samples) | self.roi_losses(readable(features), proposals, samples)

    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[dict[str, InstanceData]]:
        """`pred_instances` of each image, in the original image's frame, by falling score; `masks` are COCO RLE."""
        proposals = [boxes for boxes, _ in self.rpn.proposals(*self.rpn(features), samples)]
        features = readable(features)
        found = self.detect(features, proposals, samples)
        # (N, 5), (N,) of the whole batch
        rois, labels = as_rois([f.bboxes for f in found]), torch.cat([f.labels for f in found])
        # (N, m, m)
        masks = sum(part.probabilities(features, rois, labels) for part in self.mask_parts) / len(self.mask_parts)
        for instances, mask, sample in zip(found, masks.split([len(f) for f in found]), samples, strict=True):
            instances.bboxes = rescale_boxes(instances.bboxes, sample)
            instances.masks = rescale_masks(mask, instances.bboxes, sample, self.mask_parts[0].threshold)
        return [{"pred_instances": instances} for instances in found]


def readable(features: Sequence[Tensor]) -> list[Tensor]:
    """Maps as RoIAlign reads them: float32 in rows, so that not every call of it copies them."""
    return [x.float().contiguous() for x in features]
