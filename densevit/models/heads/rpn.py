"""Region proposal network (Faster R-CNN, arXiv 1506.01497; on a pyramid: FPN, arXiv 1612.03144, section 4.1).

Shape letters: B images, L levels, h, w size of a level's map, A anchors a place, N_l anchors of a level, N of all.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError, merge_options
from densevit.kernels.conv import Conv2d
from densevit.models.heads.anchor_head import AnchorHead, Sizes
from densevit.models.losses.detection import object_loss
from densevit.models.losses.processes import mean_over_processes
from densevit.ops.boxes import clip_boxes, decode_deltas, encode_deltas
from densevit.ops.nms import best_boxes
from densevit.ops.sampling import sample_matches
from densevit.structures import DataSample

ASSIGN = dict(
    pos_iou=0.7, neg_iou=0.3, min_pos_iou=0.3, ignore_iof=-1.0, ignore_of_region=False, match_low_quality=True,
    match_all_best=True, allow_override=True, allowed_border=-1, in_padding=False,
)  # fmt: skip
ANCHORS = dict(scales=(8.0,), ratios=(0.5, 1.0, 2.0))
CODER = dict(means=(0.0, 0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0, 1.0), limit_shrink=True)
LOSS = dict(smooth_l1_beta=0.0, cls_weight=1.0, box_weight=1.0, divisor="sampled")
SAMPLE = dict(num=256, pos_fraction=0.5)
TRAIN = dict(nms_pre=2000, nms_iou=0.7, max_per_image=1000, min_size=0.0)
TEST = dict(nms_pre=1000, nms_iou=0.7, max_per_image=1000, min_size=0.0)
DIVISORS = ("sampled", "quota")


class RPN(AnchorHead):
    """One small head over all levels: is there an object at each anchor, and where is its box?

    Args:
        in_channels: channels of the incoming maps.
        in_strides: their strides; an anchor of scale 1 is one stride wide.
        feat_channels: channels of the 3x3 convolutions.
        num_convs: how many of them.
        anchors: what differs from ANCHORS: sizes in strides (scales), height / width (ratios).
        coder: what differs from CODER: means and standard deviations of the box deltas, limit_shrink (see
            `ops.boxes.decode_deltas`; False is detectron2's).
        loss: what differs from LOSS: where the box loss turns from quadratic to L1 (smooth_l1_beta; 0: L1 throughout),
            factors of `loss_rpn_cls` and `loss_rpn_box` (cls_weight, box_weight), and the divisor of both: 'sampled',
            the anchors that count (mmdetection); 'quota', as many as `sample` asks for (detectron2).
        assign: what differs from ASSIGN: arguments of `ops.matching.match_by_iou`, allowed_border (pixels by which an
            anchor may stick out of the image, -1 any number) and in_padding (whether anchors in the padding that an
            image has from its batch count: detectron2).
        sample: what differs from SAMPLE: anchors an image that count (num), at most what part of them positive.
        train: proposals of a training step, what differs from TRAIN: candidates a level before NMS (nms_pre; 0 all),
            IoU of the NMS, which is level by level, boxes an image after it (max_per_image), and the side in pixels
            that a box must exceed (min_size; -1 none).
        test: the same of predictions, what differs from TEST.
    """

    def __init__(
        self,
        in_channels: int,
        in_strides: Sequence[int],
        feat_channels: int = 256,
        num_convs: int = 1,
        anchors: Mapping | None = None,
        coder: Mapping | None = None,
        loss: Mapping | None = None,
        assign: Mapping | None = None,
        sample: Mapping | None = None,
        train: Mapping | None = None,
        test: Mapping | None = None,
    ):
        super().__init__()
        self.strides = tuple(in_strides)
        anchors = merge_options("rpn.anchors", anchors, ANCHORS)
        self.scales, self.ratios = tuple(map(float, anchors["scales"])), tuple(map(float, anchors["ratios"]))
        self.coder = merge_options("rpn.coder", coder, CODER)
        self.limit_shrink = self.coder.pop("limit_shrink")
        self.loss_options = merge_options("rpn.loss", loss, LOSS)
        self.smooth_l1_beta, divisor = self.loss_options["smooth_l1_beta"], self.loss_options["divisor"]
        if divisor not in DIVISORS:
            raise ConfigError(f"rpn.loss has no divisor={divisor!r}: choose from {', '.join(DIVISORS)}")
        self.assign = merge_options("rpn.assign", assign, ASSIGN)
        self.sample = merge_options("rpn.sample", sample, SAMPLE)
        self.allowed_border, self.in_padding = self.assign.pop("allowed_border"), self.assign.pop("in_padding")
        self.train_proposals = merge_options("rpn.train", train, TRAIN)
        self.test_proposals = merge_options("rpn.test", test, TEST)

        widths = [in_channels, *[feat_channels] * num_convs]
        self.convs = nn.ModuleList(Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.objectness = nn.Conv2d(widths[-1], self.num_anchors, 1)
        self.deltas = nn.Conv2d(widths[-1], self.num_anchors * 4, 1)
        for conv in (*self.convs, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """features: L maps (B, C, h, w). Returns L logits (B, A, h, w) and L deltas (B, A 4, h, w)."""
        logits, deltas = [], []
        for x in features:
            for conv in self.convs:
                x = conv(x).relu_()
            logits.append(self.objectness(x))
            deltas.append(self.deltas(x))
        return logits, deltas

    def loss(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> dict[str, list[Tensor]]:
        """`loss_rpn_cls` and `loss_rpn_box`, a value a level (their sum is the loss), of what `forward` gave."""
        sizes, levels = self.anchors(logits)
        anchors, lengths = torch.cat(levels), [len(level) for level in levels]
        index, counted = zip(*(self.targets(anchors, sizes, sample) for sample in samples), strict=True)
        index, counted = torch.stack(index), torch.stack(counted)  # (B, N)
        divisor = mean_over_processes(self.num_counted(index, counted), index.device)

        scores = [self.rows(x, 1)[..., 0] for x in logits]  # L of (B, N_l)
        class_losses = [
            (object_loss(x, i >= 0) * c).sum() * (self.loss_options["cls_weight"] / divisor)
            for x, i, c in zip(scores, index.split(lengths, 1), counted.split(lengths, 1), strict=True)
        ]

        image, location = ((index >= 0) & counted).nonzero(as_tuple=True)
        starts = [0]  # ground truth of all images one after the other
        for sample in samples:
            starts.append(starts[-1] + len(sample.gt_instances))
        ground_truth = torch.cat([sample.gt_instances.bboxes for sample in samples])  # (G of all images, 4)
        # the true box of each positive anchor (P, 4)
        ground_truth = ground_truth[index[image, location] + torch.tensor(starts, device=location.device)[image]]
        flat = torch.cat([self.rows(x, 4) for x in deltas], 1)  # (B, N, 4)
        wanted = encode_deltas(anchors[location], ground_truth, **self.coder)
        box_losses = self.box_loss_by_level(flat[image, location], wanted, location, levels)
        box_losses = box_losses * (self.loss_options["box_weight"] / divisor)
        return {"loss_rpn_cls": class_losses, "loss_rpn_box": list(box_losses)}

    def num_counted(self, index: Tensor, counted: Tensor) -> Tensor | int:
        """What the losses are divided by, of this process. index, counted: (B, N)."""
        if self.loss_options["divisor"] == "quota":
            return self.sample["num"] * len(index)
        positive = ((index >= 0) & counted).sum(1)  # (B,)
        return (positive.clamp(min=1) + (counted.sum(1) - positive).clamp(min=1)).sum()

    @torch.no_grad()
    def targets(self, anchors: Tensor, sizes: Sizes, sample: DataSample) -> tuple[Tensor, Tensor]:
        """The targets of one image's anchors (N, 4): the ground truth of each (N,), negative without one, and which
        were drawn to count (N,) bool."""
        index = self.match(anchors, sizes, sample)
        return index, sample_matches(index, **self.sample)

    @torch.no_grad()
    def proposals(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], samples: Sequence[DataSample]
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes (n, 4) in pixels of the network's input and logits (n,) of each image, by falling score.

        In this order: best nms_pre of each level, boxes decoded and clipped to the image, small ones dropped, NMS level
        by level, best max_per_image of all levels.
        """
        options = self.train_proposals if self.training else self.test_proposals
        best, boxes, level = [], [], []
        for i, (x, y, anchors) in enumerate(zip(logits, deltas, self.anchors(logits)[1], strict=True)):
            score, delta = self.rows(x, 1)[..., 0], self.rows(y, 4)  # (B, N_l), (B, N_l, 4)
            most = min(options["nms_pre"], score.shape[1]) if options["nms_pre"] > 0 else score.shape[1]
            score, order = score.topk(most, dim=1)  # (B, most)
            delta = delta.gather(1, order[..., None].expand(-1, -1, 4))  # (B, most, 4)
            decoded = decode_deltas(
                anchors[order].flatten(0, 1), delta.flatten(0, 1), **self.coder, limit_shrink=self.limit_shrink
            )
            best.append(score)
            boxes.append(decoded.unflatten(0, delta.shape[:2]))  # (B, most, 4)
            level.append(order.new_full((most,), i))  # NMS takes each level by itself
        best, boxes, level = torch.cat(best, 1), torch.cat(boxes, 1), torch.cat(level)  # (B, n), (B, n, 4), (n,)
        return [
            _suppress(b, clip_boxes(x, sample.img_shape), level, options)
            for b, x, sample in zip(best, boxes, samples, strict=True)
        ]


def _suppress(scores: Tensor, boxes: Tensor, level: Tensor, options: Mapping) -> tuple[Tensor, Tensor]:
    """The proposals of one image out of its candidates (N,), (N, 4), (N,)."""
    keep = best_boxes(boxes, scores, level, options["nms_iou"], options["max_per_image"], options["min_size"])
    return boxes[keep], scores[keep]
