"""Mask R-CNN (arXiv 1703.06870): proposals, then class, box and mask of each.

Shape letters: n regions of an image, K classes.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from densevit.models.heads.rcnn import RCNNHead
from densevit.models.heads.roi_box import RoIBox
from densevit.models.heads.roi_mask import RoIMask
from densevit.ops.roi_align import as_rois
from densevit.registry import MODELS
from densevit.structures import DataSample, InstanceData


@MODELS.register_module()
class MaskRCNNHead(RCNNHead):
    """Region proposals on all maps; of each region a class, a box and a mask.

    The defaults are mmdetection's; detectron2's differences are options of the parts.

    Args:
        in_channels: channels of the incoming maps, all equal.
        in_strides: their strides.
        num_classes: K.
        rpn: arguments of RPN (heads/rpn.py) that differ from its defaults.
        box: arguments of RoIBox (heads/roi_box.py) that differ from its defaults.
        mask: arguments of RoIMask (heads/roi_mask.py) that differ from its defaults.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        rpn: Mapping | None = None,
        box: Mapping | None = None,
        mask: Mapping | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_channels, in_strides, num_classes, rpn, init_cfg)
        self.box = self.part(RoIBox, "box", box, num_classes=num_classes)
        self.mask = self.part(RoIMask, "mask", mask, num_classes=num_classes)

    @property
    def mask_parts(self) -> Sequence[RoIMask]:
        return [self.mask]

    def roi_losses(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_box` and `loss_mask` for given proposals (n, 4) of each image."""
        regions = [self.box.sample_rois(boxes, sample) for boxes, sample in zip(proposals, samples, strict=True)]
        labels = self.box.labels(regions, samples)
        logits, deltas = self.box(self.box.pool(features, as_rois([r.boxes for r in regions])))
        class_loss, box_loss = self.box.loss(logits, deltas, regions, samples, labels)
        mask_loss = self.mask.loss(
            features, [r.positive for r in regions], [r.matched_gt_of_positive for r in regions], samples
        )
        return {"loss_cls": class_loss, "loss_box": box_loss, "loss_mask": mask_loss}

    def detect(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> list[InstanceData]:
        """Boxes, scores and labels of each image, by falling score, in pixels of the network's input."""
        logits, deltas = self.box(self.box.pool(features, as_rois(proposals)))
        return self.box.detections(proposals, logits.softmax(1), deltas, samples)
