"""The second stage of R-CNN: the class and the box of a region (Fast R-CNN, arXiv 1504.08083).

Shape letters: B images, N regions of a batch, n of an image, G true boxes, K classes, C channels, s side of the pooled
map.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError, merge_options
from densevit.kernels.linear import apply_linear
from densevit.models.heads.roi_part import RoIPart
from densevit.models.layers.conv_tower import conv_tower
from densevit.models.losses.detection import box_regression_loss, class_loss, giou_loss
from densevit.models.losses.processes import mean_over_processes
from densevit.ops.boxes import decode_deltas, encode_deltas
from densevit.ops.matching import match_by_iou
from densevit.ops.nms import best_boxes
from densevit.ops.sampling import sample_matches
from densevit.structures import DataSample, InstanceData

ASSIGN = dict(
    pos_iou=0.5, neg_iou=0.5, min_pos_iou=0.5, ignore_iof=-1.0, ignore_of_region=False, match_low_quality=True,
    match_all_best=True, allow_override=True,
)  # fmt: skip
CODER = dict(means=(0.0, 0.0, 0.0, 0.0), stds=(0.1, 0.1, 0.2, 0.2), limit_shrink=True)
LOSS = dict(kind="deltas", smooth_l1_beta=0.0, cls_weight=1.0, box_weight=1.0)
SAMPLE = dict(num=512, pos_fraction=0.25, add_gt_as_proposals=True)
BOX_LOSSES = ("deltas", "giou")
TEST = dict(score_thr=0.05, nms_iou=0.5, max_per_image=100, min_size=-1.0)


class SampledRois(NamedTuple):
    """The regions of one image that a training step uses, the positive ones first.

    boxes: (n, 4). matched_gt: (n,) int64, number of the true box, -1 background. positives: how many. added: (n,) bool,
    whether the region is itself a true box.
    """

    boxes: Tensor
    matched_gt: Tensor
    positives: int
    added: Tensor

    @property
    def positive(self) -> Tensor:
        """The boxes of the positive regions: (positives, 4)."""
        return self.boxes[: self.positives]

    @property
    def matched_gt_of_positive(self) -> Tensor:
        """The numbers of their true boxes: (positives,)."""
        return self.matched_gt[: self.positives]


class RoIBox(RoIPart):
    """Pooled maps through shared convolutions and linear layers to classes and box deltas.

    Args:
        in_channels: channels of the incoming maps.
        in_strides: their strides.
        num_classes: K; class K is the background.
        pooling: see RoIPart; the pooled map's side is 7.
        num_convs: 3x3 convolutions before the linear layers.
        conv_channels: their channels.
        norm: after each convolution: None, 'LN' (over the channels) or 'BN' (over the regions of a batch).
        num_fcs: linear layers.
        fc_channels: their width.
        class_agnostic: one box a region instead of one a class.
        coder: what differs from CODER: means and standard deviations of the box deltas, limit_shrink (see
            `ops.boxes.decode_deltas`; False is detectron2's).
        loss: what differs from LOSS. kind: 'deltas', smooth L1 of the deltas, or 'giou' of the boxes that they make.
            smooth_l1_beta: where the former turns from quadratic to L1; 0: L1 throughout. cls_weight, box_weight:
            factors of the class loss and of the box loss.
        assign: what differs from ASSIGN, arguments of `ops.matching.match_by_iou`.
        sample: what differs from SAMPLE: regions an image that count (num), at most what part of them positive, and
            whether true boxes join the proposals (add_gt_as_proposals).
        test: what differs from TEST: lowest score (score_thr), IoU of the class-wise NMS (nms_iou), boxes an image
            (max_per_image), the side in pixels that a box must exceed (min_size; -1 none).
    """

    def __init__(
        self,
        in_channels: int,
        in_strides: Sequence[int],
        num_classes: int,
        pooling: Mapping | None = None,
        num_convs: int = 0,
        conv_channels: int = 256,
        norm: str | None = None,
        num_fcs: int = 2,
        fc_channels: int = 1024,
        class_agnostic: bool = False,
        coder: Mapping | None = None,
        loss: Mapping | None = None,
        assign: Mapping | None = None,
        sample: Mapping | None = None,
        test: Mapping | None = None,
    ):
        super().__init__("box.pooling", in_strides, pooling, size=7)
        self.num_classes, self.class_agnostic = num_classes, class_agnostic
        self.coder = merge_options("box.coder", coder, CODER)
        self.limit_shrink = self.coder.pop("limit_shrink")
        self.loss_options = merge_options("box.loss", loss, LOSS)
        if self.loss_options["kind"] not in BOX_LOSSES:
            raise ConfigError(
                f"box.loss has no kind={self.loss_options['kind']!r}: choose from {', '.join(BOX_LOSSES)}"
            )
        self.assign = merge_options("box.assign", assign, ASSIGN)
        self.sample = merge_options("box.sample", sample, SAMPLE)
        self.add_gt_as_proposals = self.sample.pop("add_gt_as_proposals")
        self.nms = merge_options("box.test", test, TEST)
        self.score_thr = self.nms.pop("score_thr")

        widths = [in_channels, *[conv_channels] * num_convs]
        self.convs = conv_tower(widths, norm)
        widths = [widths[-1] * self.pooling["size"] ** 2, *[fc_channels] * num_fcs]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.cls_pred = nn.Linear(widths[-1], num_classes + 1)
        self.bbox_pred = nn.Linear(widths[-1], 4 if class_agnostic else 4 * num_classes)
        for fc in self.fcs:
            nn.init.xavier_uniform_(fc.weight)
        nn.init.normal_(self.cls_pred.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for fc in (*self.fcs, self.cls_pred, self.bbox_pred):
            nn.init.zeros_(fc.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """pooled: (N, C, s, s). Returns logits (N, K + 1) and deltas (N, K, 4), or (N, 1, 4) for all classes."""
        x = self.convs(pooled).flatten(1)  # (N, C s s)
        for fc in self.fcs:
            x = apply_linear(fc, x).relu_()
        logits, deltas = (apply_linear(layer, x).float() for layer in (self.cls_pred, self.bbox_pred))
        return logits, deltas.unflatten(1, (-1, 4))  # (N, K or 1, 4)

    @torch.no_grad()
    def sample_rois(self, proposals: Tensor, sample: DataSample) -> SampledRois:
        """Match the proposals (P, 4) of one image with its ground truth and draw those that count."""
        ground_truth = sample.gt_instances.bboxes
        index = self.match(proposals, sample)
        added = torch.zeros(len(proposals), dtype=torch.bool, device=proposals.device)
        if self.add_gt_as_proposals:
            proposals = torch.cat((ground_truth.to(proposals), proposals))
            # a true box is matched with itself
            index = torch.cat((torch.arange(len(ground_truth), device=index.device), index))
            added = torch.cat((added.new_ones(len(ground_truth)), added))
        drawn = sample_matches(index, **self.sample)
        positive = (drawn & (index >= 0)).nonzero().flatten()  # (positives,)
        # the positive ones first, which `SampledRois` promises
        locations = torch.cat((positive, (drawn & (index < 0)).nonzero().flatten()))
        return SampledRois(proposals[locations], index[locations], len(positive), added[locations])

    @torch.no_grad()
    def keep_all(self, boxes: Tensor, sample: DataSample) -> SampledRois:
        """Match the boxes (P, 4) of one image with its ground truth; all count but those in ignored regions."""
        index = self.match(boxes, sample)
        positive = (index >= 0).nonzero().flatten()
        locations = torch.cat((positive, (index == -1).nonzero().flatten()))
        return SampledRois(
            boxes[locations], index[locations], len(positive), torch.zeros_like(locations, dtype=torch.bool)
        )

    def match(self, boxes: Tensor, sample: DataSample) -> Tensor:
        """The true box of each box (P, 4): (P,) int64, -1 background, -2 inside an ignored region."""
        ignored = sample.ignored_instances.bboxes if "ignored_instances" in sample else None
        return match_by_iou(boxes, sample.gt_instances.bboxes, ignored=ignored, **self.assign).index

    def labels(self, regions: Sequence[SampledRois], samples: Sequence[DataSample]) -> Tensor:
        """Class of each region of the batch: (N,) int64, K background."""
        labels = []
        for region, sample in zip(regions, samples, strict=True):
            label = torch.full_like(region.matched_gt, self.num_classes)
            label[: region.positives] = sample.gt_instances.labels[region.matched_gt_of_positive]
            labels.append(label)
        return torch.cat(labels)

    def loss(
        self,
        logits: Tensor,
        deltas: Tensor,
        regions: Sequence[SampledRois],
        samples: Sequence[DataSample],
        labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The class loss and the box loss, both divided by the number of regions of the whole batch, over all
        processes, background or not.

        logits: (N, K + 1). deltas: (N, K or 1, 4). labels: (N,) as `labels` gives them.
        """
        options, divisor = self.loss_options, mean_over_processes(len(labels), labels.device)
        locations, start = [], 0
        for region in regions:
            # positive regions, among those of the batch
            locations.append(torch.arange(start, start + region.positives, device=labels.device))
            start += len(region.boxes)
        locations = torch.cat(locations)
        boxes = torch.cat([r.positive for r in regions])
        ground_truth = torch.cat(
            [s.gt_instances.bboxes[r.matched_gt_of_positive] for r, s in zip(regions, samples, strict=True)]
        )
        # (P, 4): of the true class, or the only one
        given = deltas[locations, 0 if self.class_agnostic else labels[locations]]
        if options["kind"] == "giou":
            each = giou_loss(decode_deltas(boxes, given, **self.coder, limit_shrink=self.limit_shrink), ground_truth)
        else:
            each = box_regression_loss(
                given, encode_deltas(boxes, ground_truth, **self.coder), options["smooth_l1_beta"]
            )
        box_loss = each.sum() * (options["box_weight"] / divisor)
        return class_loss(logits, labels).sum() * (options["cls_weight"] / divisor), box_loss

    def refine(self, boxes: Tensor, labels: Tensor, deltas: Tensor, shape: tuple[int, int]) -> Tensor:
        """Boxes (n, 4) moved by the deltas of their classes (n,) and clipped to an image of (height, width)."""
        chosen = (
            deltas[:, 0] if self.class_agnostic else deltas[torch.arange(len(deltas), device=deltas.device), labels]
        )
        return decode_deltas(boxes, chosen, **self.coder, shape=shape, limit_shrink=self.limit_shrink)

    def detections(
        self, boxes: Sequence[Tensor], scores: Tensor, deltas: Tensor, samples: Sequence[DataSample]
    ) -> list[InstanceData]:
        """`detect` of each image: boxes (n, 4) an image, scores (N, K + 1) and deltas (N, K or 1, 4) of the batch."""
        counts = [len(b) for b in boxes]
        parts = zip(boxes, scores.split(counts), deltas.split(counts), samples, strict=True)
        return [self.detect(*part) for part in parts]

    def detect(self, boxes: Tensor, scores: Tensor, deltas: Tensor, sample: DataSample) -> InstanceData:
        """One image's detections in pixels of the network's input, by falling score.

        boxes: (n, 4) regions. scores: (n, K + 1) probabilities. deltas: (n, K or 1, 4). In this order: score above the
        threshold, boxes decoded and clipped to the image, NMS class by class, best max_per_image.
        """
        region, labels = (scores[:, :-1] > self.score_thr).nonzero(as_tuple=True)  # pairs of region and class
        best = scores[region, labels]  # (pairs,)
        boxes = self.refine(boxes[region], labels, deltas[region], sample.img_shape)
        keep = best_boxes(boxes, best, labels, **self.nms)
        return InstanceData(bboxes=boxes[keep], scores=best[keep], labels=labels[keep])
