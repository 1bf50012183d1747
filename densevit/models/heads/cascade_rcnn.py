"""Cascade R-CNN (arXiv 1712.00726) with masks: boxes are refined stage by stage, each trained for a higher overlap.

Shape letters: B images, N regions of a batch, n of an image, S stages, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.models.heads.rcnn import RCNNHead
from densevit.models.heads.roi_box import RoIBox, SampledRois
from densevit.models.heads.roi_mask import RoIMask
from densevit.ops.roi_align import as_rois
from densevit.registry import MODELS
from densevit.structures import DataSample, InstanceData

BOX = dict(class_agnostic=True, loss=dict(smooth_l1_beta=1.0))
STAGES = tuple(
    dict(coder=dict(stds=stds), assign=dict(pos_iou=iou, neg_iou=iou, min_pos_iou=iou, match_low_quality=False))
    for iou, stds in ((0.5, (0.1, 0.1, 0.2, 0.2)), (0.6, (0.05, 0.05, 0.1, 0.1)), (0.7, (0.033, 0.033, 0.067, 0.067)))
)
AVERAGES = ("logits", "probabilities")


@MODELS.register_module()
class CascadeRCNNHead(RCNNHead):
    """Region proposals on all maps; then S times a class and a better box; and masks.

    The defaults are mmdetection's; detectron2's differences are options here and of the parts.

    Args:
        in_channels: channels of the incoming maps, all equal.
        in_strides: their strides.
        num_classes: K.
        rpn: arguments of RPN (heads/rpn.py) that differ from its defaults.
        box: arguments of RoIBox (heads/roi_box.py) that all stages have and that differ from BOX.
        stages: options of each stage, which come before those of `box`; one dict a stage.
        stage_weights: factor of each stage's losses.
        mask: arguments of RoIMask (heads/roi_mask.py) that differ from its defaults.
        mask_each_stage: a mask part for every stage, whose probabilities are averaged; False: one, trained on the
            regions of the first stage (detectron2).
        average: what of the stages is averaged to the score: 'logits', or 'probabilities' (detectron2).
        resample: regions that a stage has refined are drawn from anew, and true boxes are taken out before and put back
            (mmdetection); False: all stay, true boxes too, less the empty ones (detectron2).
        scale_gradients: divide the gradient of each stage's pooled maps by S (detectron2).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        rpn: Mapping | None = None,
        box: Mapping | None = None,
        stages: Sequence[Mapping] = STAGES,
        stage_weights: Sequence[float] = (1.0, 0.5, 0.25),
        mask: Mapping | None = None,
        mask_each_stage: bool = True,
        average: str = "logits",
        resample: bool = True,
        scale_gradients: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_channels, in_strides, num_classes, rpn, init_cfg)
        if len(stage_weights) != len(stages):
            raise ConfigError(f"CascadeRCNNHead has {len(stage_weights)} stage_weights for {len(stages)} stages")
        if average not in AVERAGES:
            raise ConfigError(f"CascadeRCNNHead has no average={average!r}: choose from {', '.join(AVERAGES)}")
        self.stage_weights, self.average = tuple(stage_weights), average
        self.resample, self.scale_gradients = resample, scale_gradients
        self.boxes = nn.ModuleList(
            self.part(RoIBox, f"box (stage {i})", _merged(BOX, box or {}, stage), num_classes=num_classes)
            for i, stage in enumerate(stages)
        )
        self.masks = nn.ModuleList(
            self.part(RoIMask, "mask", mask, num_classes=num_classes)
            for _ in (stages if mask_each_stage else stages[:1])
        )

    @property
    def mask_parts(self) -> Sequence[RoIMask]:
        return self.masks

    def roi_losses(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> dict[str, Tensor]:
        """Of stage i `loss_cls_stage{i}`, `loss_box_stage{i}` and `loss_mask_stage{i}`, times the stage's weight, for
        given proposals (n, 4) of each image."""
        losses, regions = {}, []
        for i, (box, weight) in enumerate(zip(self.boxes, self.stage_weights, strict=True)):
            if i == 0 or self.resample:
                regions = [box.sample_rois(boxes, sample) for boxes, sample in zip(proposals, samples, strict=True)]
            else:
                regions = [box.keep_all(boxes, sample) for boxes, sample in zip(proposals, samples, strict=True)]
            labels = box.labels(regions, samples)
            logits, deltas = self.read(i, features, as_rois([r.boxes for r in regions]))
            class_loss, box_loss = box.loss(logits, deltas, regions, samples, labels)
            losses[f"loss_cls_stage{i}"], losses[f"loss_box_stage{i}"] = class_loss * weight, box_loss * weight
            if i < len(self.masks):
                positive, ground_truth = [r.positive for r in regions], [r.matched_gt_of_positive for r in regions]
                losses[f"loss_mask_stage{i}"] = self.masks[i].loss(features, positive, ground_truth, samples) * weight
            if i + 1 < len(self.boxes):
                proposals = self.refined(box, regions, labels, logits, deltas, samples)
        return losses

    def read(self, stage: int, features: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K + 1) and deltas (N, K or 1, 4) of a stage for regions (N, 5)."""
        pooled = self.boxes[stage].pool(features, rois)
        if self.scale_gradients and pooled.requires_grad:
            # the maps get the mean of the stages' gradients, not their sum
            pooled.register_hook(lambda gradient: gradient / len(self.boxes))
        return self.boxes[stage](pooled)

    @torch.no_grad()
    def refined(
        self,
        box: RoIBox,
        regions: Sequence[SampledRois],
        labels: Tensor,
        logits: Tensor,
        deltas: Tensor,
        samples: Sequence[DataSample],
    ) -> list[Tensor]:
        """The boxes (n, 4) of each image that the next stage of a training step starts from."""
        # background regions move by the deltas of their likeliest class
        labels = torch.where(labels == self.num_classes, logits[:, :-1].argmax(1), labels)
        counts, result = [len(r.boxes) for r in regions], []
        for region, label, delta, sample in zip(
            regions, labels.split(counts), deltas.split(counts), samples, strict=True
        ):
            boxes = box.refine(region.boxes, label, delta, sample.img_shape)
            kept = ~region.added if self.resample else (boxes[:, 2:] > boxes[:, :2]).all(1)  # (n,) bool
            result.append(boxes[kept])
        return result

    def stages_of(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """The way of proposals (n, 4) through all stages, for predictions.

        Returns the boxes of each image as the last stage received them, the averaged scores (N, K + 1), which are
        logits or probabilities by `average`, and the last stage's deltas (N, K or 1, 4).
        """
        counts, total = [len(boxes) for boxes in proposals], 0
        for i, box in enumerate(self.boxes):
            logits, deltas = self.read(i, features, as_rois(proposals))
            total = total + (logits if self.average == "logits" else logits.softmax(1))  # (N, K + 1)
            if i + 1 < len(self.boxes):
                labels = logits[:, :-1].argmax(1)  # (N,), the background left out
                proposals = [
                    box.refine(*parts, sample.img_shape)
                    for *parts, sample in zip(
                        proposals, labels.split(counts), deltas.split(counts), samples, strict=True
                    )
                ]
        return list(proposals), total / len(self.boxes), deltas

    def detect(
        self, features: Sequence[Tensor], proposals: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> list[InstanceData]:
        """Boxes, scores and labels of each image, by falling score, in pixels of the network's input."""
        boxes, scores, deltas = self.stages_of(features, proposals, samples)
        scores = scores.softmax(1) if self.average == "logits" else scores
        return self.boxes[-1].detections(boxes, scores, deltas, samples)


def _merged(*options: Mapping) -> dict[str, Any]:
    """The options of RoIBox, the later before the earlier; those of its coder and its loss one by one."""
    merged: dict[str, Any] = {}
    for given in options:
        groups = {key: {**merged.get(key, {}), **given[key]} for key in ("coder", "loss") if given.get(key)}
        merged |= {**given, **groups}
    return merged
