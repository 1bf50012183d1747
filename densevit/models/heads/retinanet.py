"""RetinaNet's head (arXiv 1708.02002): dense anchors on every level, focal loss.

Shape letters: B images, L levels, h, w size of a level's map, A anchors a place, K classes, N anchors of an image over
all levels, G true boxes.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError, merge_options
from densevit.kernels.conv import Conv2d
from densevit.models.heads.anchor_head import AnchorHead, Sizes
from densevit.models.losses.detection import sigmoid_focal_loss
from densevit.models.losses.processes import mean_over_processes
from densevit.models.postprocess import rescale_boxes
from densevit.models.protocols import Head
from densevit.ops.anchors import octave_scales
from densevit.ops.boxes import decode_deltas, encode_deltas
from densevit.ops.nms import best_boxes
from densevit.registry import MODELS
from densevit.structures import DataSample, InstanceData

ASSIGN = dict(
    pos_iou=0.5, neg_iou=0.4, min_pos_iou=0.0, ignore_iof=-1.0, ignore_of_region=False, match_low_quality=True,
    match_all_best=True, allowed_border=-1,
)  # fmt: skip
ANCHORS = dict(octave_base_scale=4, scales_per_octave=3, scales=None, strides=None, ratios=(0.5, 1.0, 2.0))
CODER = dict(means=(0.0, 0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0, 1.0))
LOSS = dict(focal_gamma=2.0, focal_alpha=0.25, smooth_l1_beta=0.0, cls_weight=1.0, box_weight=1.0)
TEST = dict(nms_pre=1000, score_thr=0.05, nms_iou=0.5, max_per_image=100, min_size=0.0)


@MODELS.register_module()
class RetinaNetHead(AnchorHead, Head):
    """Two towers of convolutions, shared by all levels: classes and box deltas of A anchors a place.

    Args:
        in_channels: channels of the incoming maps, all equal.
        in_strides: their strides; an anchor of scale 1 is one stride wide.
        num_classes: K.
        feat_channels: channels of the towers.
        stacked_convs: convolutions in each tower.
        anchors: what differs from ANCHORS: the smallest anchor in strides (octave_base_scale) and the anchor sizes
            between this one and its double (scales_per_octave), or sizes in strides one by one instead (scales); height
            / width of the anchors (ratios); and pixels between the anchors of each level, and the size of scale 1,
            where they are not the strides of the maps (strides; mmdetection states them in a place of their own).
        coder: what differs from CODER: means and standard deviations of the box deltas.
        loss: what differs from LOSS: gamma and alpha of the focal loss, where the box loss turns from quadratic to L1
            (smooth_l1_beta; 0: L1 throughout), factors of `loss_cls` and `loss_box` (cls_weight, box_weight).
        assign: arguments of `ops.matching.match_by_iou` that differ from ASSIGN; and allowed_border: pixels by which
            an anchor may stick out of the image, -1 any number (others do not count in training).
        test: what differs from TEST: candidates a level before NMS (nms_pre), lowest score (score_thr), IoU of the
            class-wise NMS (nms_iou), boxes an image (max_per_image), least side in pixels (min_size).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        num_classes: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        anchors: Mapping | None = None,
        coder: Mapping | None = None,
        loss: Mapping | None = None,
        assign: Mapping | None = None,
        test: Mapping | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if len(set(in_channels)) != 1:
            raise ConfigError(
                f"RetinaNetHead needs maps of equal channels, not {tuple(in_channels)}: put an FPN before"
            )
        anchors = merge_options("RetinaNetHead's anchors", anchors, ANCHORS)
        self.coder = merge_options("RetinaNetHead's coder", coder, CODER)
        self.loss_options = merge_options("RetinaNetHead's loss", loss, LOSS)
        self.smooth_l1_beta = self.loss_options["smooth_l1_beta"]
        self.assign = merge_options("RetinaNetHead's assign", assign, ASSIGN)
        self.allowed_border = self.assign.pop("allowed_border")
        self.nms = merge_options("RetinaNetHead's test", test, TEST)
        self.score_thr, self.nms_pre = self.nms.pop("score_thr"), self.nms.pop("nms_pre")
        self.num_classes, self.strides = num_classes, tuple(anchors["strides"] or in_strides)
        if len(self.strides) != len(in_channels):
            raise ConfigError(
                f"RetinaNetHead: {len(self.strides)} anchors.strides for {len(in_channels)} incoming maps"
            )
        scales = anchors["scales"] or octave_scales(anchors["octave_base_scale"], anchors["scales_per_octave"])
        self.scales, self.ratios = tuple(map(float, scales)), tuple(map(float, anchors["ratios"]))

        widths = [in_channels[0], *[feat_channels] * stacked_convs]
        self.cls_convs = nn.ModuleList(Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.reg_convs = nn.ModuleList(Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.retina_cls = Conv2d(widths[-1], self.num_anchors * num_classes, 3, padding=1)
        self.retina_reg = nn.Conv2d(widths[-1], self.num_anchors * 4, 3, padding=1)
        for conv in (*self.cls_convs, *self.reg_convs, self.retina_cls, self.retina_reg):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.constant_(self.retina_cls.bias, -math.log((1 - 0.01) / 0.01))  # every class starts at 1 %

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """features: L maps (B, C, h, w). Returns L logits (B, A K, h, w) and L deltas (B, A 4, h, w)."""
        logits, deltas = [], []
        for x in features:
            c = r = x
            for conv in self.cls_convs:
                c = conv(c).relu_()
            for conv in self.reg_convs:
                r = conv(r).relu_()
            logits.append(self.retina_cls(c))
            deltas.append(self.retina_reg(r))
        return logits, deltas

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> dict[str, list[Tensor]]:
        """`loss_cls` and `loss_box`, a value a level (their sum is the loss).

        Both are divided by the number of positive anchors, counted as at least 1 an image, of the whole batch, over
        all processes.
        """
        options = self.loss_options
        logits, deltas = self(features)
        sizes, levels = self.anchors(logits)
        anchors = torch.cat(levels)
        targets = [self.targets(anchors, sizes, sample) for sample in samples]
        labels, locations, boxes, counts = (list(column) for column in zip(*targets, strict=True))
        labels = torch.stack(labels).split([len(a) for a in levels], dim=1)  # L of (B, N_l)
        divisor = mean_over_processes(torch.stack(counts).clamp(min=1).sum().float())

        # (P,): numbers among the anchors of all images
        offsets = torch.cat([p + i * len(anchors) for i, p in enumerate(locations)])
        flat_deltas = torch.cat([self.rows(x, 4) for x in deltas], dim=1)  # (B, N, 4)
        wanted = encode_deltas(anchors[torch.cat(locations)], torch.cat(boxes), **self.coder)
        given = flat_deltas.flatten(0, 1)[offsets]  # (P, 4) of the positive anchors of all images
        box_losses = self.box_loss_by_level(given, wanted, torch.cat(locations), levels)
        box_losses = box_losses * (options["box_weight"] / divisor)
        # an image without objects must still give every parameter a gradient (of zero)
        box_losses = box_losses + flat_deltas.sum() * 0

        focal, class_losses = (options["focal_gamma"], options["focal_alpha"]), []
        for x, label in zip(logits, labels, strict=True):
            label = label.flatten()  # (B * N_l,)
            loss = sigmoid_focal_loss(self.rows(x, self.num_classes).flatten(0, 1), label.clamp(min=0), *focal)
            # anchors that do not count (-1) are multiplied away: no boolean index in a training step
            class_losses.append((loss.sum(1) * (label >= 0)).sum() * (options["cls_weight"] / divisor))
        return {"loss_cls": class_losses, "loss_box": list(box_losses)}

    @torch.no_grad()
    def targets(self, anchors: Tensor, sizes: Sizes, sample: DataSample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The targets of one image's anchors (N, 4).

        Returns the label of each anchor (N,): K background, -1 does not count; the locations (P,) of the positive ones,
        the true box of each (P, 4), and P as a tensor.
        """
        ground_truth = sample.gt_instances
        index = self.match(anchors, sizes, sample)
        locations = (index >= 0).nonzero().flatten()
        # background, then what does not count, then the positive ones
        labels = torch.full_like(index, self.num_classes).masked_fill_(index == -2, -1)
        labels[locations] = ground_truth.labels[index[locations]]
        return labels, locations, ground_truth.bboxes[index[locations]], index.new_tensor(len(locations))

    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[dict[str, InstanceData]]:
        """`pred_instances` of each image, in the original image's frame, by falling score."""
        logits, deltas = self(features)
        _, levels = self.anchors(logits)
        scores = [self.rows(x, self.num_classes).sigmoid() for x in logits]  # L of (B, N_l, K)
        rows = [self.rows(x, 4) for x in deltas]
        predictions = []
        for i, sample in enumerate(samples):
            found = self.decode([s[i] for s in scores], [r[i] for r in rows], levels, sample)
            predictions.append({"pred_instances": found})
        return predictions

    def decode(
        self, scores: list[Tensor], deltas: list[Tensor], anchors: Sequence[Tensor], sample: DataSample
    ) -> InstanceData:
        """One image's detections. scores: L of (N_l, K); deltas: L of (N_l, 4); anchors: L of (N_l, 4).

        In this order: score above the threshold, best nms_pre of each level over (anchor, class) pairs, boxes decoded
        and clipped to the image, restored to the original image, NMS class by class, best max_per_image.
        """
        best, labels, boxes, bases = [], [], [], []
        for level_scores, level_deltas, level_anchors in zip(scores, deltas, anchors, strict=True):
            pairs = (level_scores > self.score_thr).nonzero()  # (n, 2): anchor, class
            ranked, order = level_scores[pairs[:, 0], pairs[:, 1]].sort(descending=True)
            if self.nms_pre > 0:
                ranked, order = ranked[: self.nms_pre], order[: self.nms_pre]
            pairs = pairs[order]
            best.append(ranked)
            labels.append(pairs[:, 1])
            boxes.append(level_deltas[pairs[:, 0]])  # an anchor stands here once for each of its classes
            bases.append(level_anchors[pairs[:, 0]])
        best, labels = torch.cat(best), torch.cat(labels)  # (n,) of all levels
        boxes = decode_deltas(torch.cat(bases), torch.cat(boxes), **self.coder, shape=sample.img_shape)
        boxes = rescale_boxes(boxes, sample)
        keep = best_boxes(boxes, best, labels, **self.nms)
        return InstanceData(bboxes=boxes[keep], scores=best[keep], labels=labels[keep])
