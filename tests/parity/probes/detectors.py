"""Tensors of mmdetection's detectors: RetinaNet, Mask R-CNN and Cascade Mask R-CNN."""

import numpy as np
import torch
from torch import Tensor, nn

from densevit.ops.boxes import encode_deltas
from densevit.ops.masks import decode_rle
from densevit.structures import DataSample, InstanceData


def probe_retinanet(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """Pyramid, raw maps, losses of each level and final detections."""
    features = model.backbone(inputs["image"])
    pyramid, head = model.neck(features), model.head
    probes = {f"stage_{i}": x for i, x in zip(model.backbone.out_indices, features, strict=True)}
    probes |= {f"fpn_{i}": x for i, x in enumerate(pyramid)}
    logits, deltas = head(pyramid)
    probes["cls"] = torch.cat([x.flatten(1) for x in logits], 1)
    probes["reg"] = torch.cat([x.flatten(1) for x in deltas], 1)
    if "gt_boxes" in inputs:
        losses = head.loss(pyramid, samples_of(inputs))
        probes |= {"loss_cls": torch.stack(losses["loss_cls"]), "loss_bbox": torch.stack(losses["loss_box"])}
    if "img_shape" in inputs:
        probes |= detections(head, pyramid, inputs)
    return [probes]


def probe_rcnn(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """Pyramid, proposals, the second stage at given RoIs, losses and final detections of a two-stage detector."""
    features = model.backbone(inputs["image"])
    pyramid, head = model.neck(features), model.head
    probes = {f"stage_{i}": x for i, x in zip(model.backbone.out_indices, features, strict=True)}
    probes |= {f"fpn_{i}": x for i, x in enumerate(pyramid)}
    logits, deltas = head.rpn(pyramid)
    probes["rpn_cls"] = torch.cat([x.flatten(1) for x in logits], 1)
    probes["rpn_reg"] = torch.cat([x.flatten(1) for x in deltas], 1)
    stages = stages_of(head)
    if "gt_boxes" in inputs:
        return [probes | rcnn_losses(head, pyramid, logits, deltas, inputs)]

    samples = samples_of(inputs)
    proposals, scores = zip(*head.rpn.proposals(logits, deltas, samples), strict=True)
    probes["proposals"], probes["proposal_scores"] = torch.cat(proposals), torch.cat(scores).sigmoid()
    probes["proposal_count"] = torch.tensor([len(boxes) for boxes in proposals])
    if "fixed_rois" in inputs:
        rois = inputs["fixed_rois"]
        for i, box in enumerate(stages):
            end = f"_s{i}" if len(stages) > 1 else ""
            probes[f"roi_cls{end}"], found = box(box.pool(pyramid, rois))
            probes[f"roi_reg{end}"] = found.flatten(1)
        masks = [part(part.pool(pyramid, rois[:8])) for part in head.mask_parts]
        probes["mask_logits"] = torch.stack(masks) if len(stages) > 1 else masks[0]
    if len(stages) > 1:
        boxes, probes["mean_logits"], _ = head.stages_of(pyramid, proposals, samples)
        probes["refined_rois"] = torch.cat(boxes)
    return [probes | detections(head, pyramid, inputs)]


def stages_of(head: nn.Module) -> list[nn.Module]:
    """The box heads of a two-stage detector: one, or those of a cascade."""
    return list(head.boxes) if hasattr(head, "boxes") else [head.box]


def detections(head: nn.Module, pyramid: tuple[Tensor, ...], inputs: dict) -> dict[str, Tensor]:
    """Final detections in the resized and in the original image, and masks as packed bits and areas."""
    found = [fields["pred_instances"] for fields in head.predict(pyramid, samples_of(inputs, resized=True))]
    probes = {"det_boxes": torch.cat([p.bboxes for p in found])}
    found = [fields["pred_instances"] for fields in head.predict(pyramid, samples_of(inputs))]
    probes["det_boxes_rescaled"] = torch.cat([p.bboxes for p in found])
    probes["det_scores"], probes["det_labels"] = (torch.cat([p[k] for p in found]) for k in ("scores", "labels"))
    probes["det_count"] = torch.tensor([len(p) for p in found])
    if "masks" in found[0]:
        masks = [np.stack([decode_rle(r) for r in p.masks]) if len(p) else np.zeros((0, 1, 1)) for p in found]
        for i, image in enumerate(masks):
            probes[f"det_masks_bits_{i}"] = torch.from_numpy(np.packbits(image.astype(bool), -1))
        probes["det_mask_area"] = torch.tensor([int(mask.sum()) for image in masks for mask in image])
    return probes


def rcnn_losses(head: nn.Module, pyramid: tuple, logits: list, deltas: list, inputs: dict) -> dict[str, Tensor]:
    """Targets and losses of a two-stage detector, for the proposals that the case gives and for the head's own."""
    samples, stages = samples_of(inputs), stages_of(head)
    own = head.rpn.loss(logits, deltas, samples)
    probes = {"loss_rpn_cls": torch.stack(own["loss_rpn_cls"]), "loss_rpn_bbox": torch.stack(own["loss_rpn_box"])}
    proposals = inputs["proposals"].split([int(n) for n in inputs["proposal_count"]])
    rois = [stages[0].sample_rois(boxes, sample) for boxes, sample in zip(proposals, samples, strict=True)]
    probes["roi_labels"] = stages[0].labels(rois, samples)
    targets = []
    for sampled, sample in zip(rois, samples, strict=True):
        target = torch.zeros_like(sampled.boxes)
        matched = sample.gt_instances.bboxes[sampled.matched_gt_of_positive]
        target[: sampled.positives] = encode_deltas(sampled.positive, matched, **stages[0].coder)
        targets.append(target)
    probes["roi_bbox_targets"] = torch.cat(targets)
    positive, matched = [r.positive for r in rois], [r.matched_gt_of_positive for r in rois]
    probes["mask_targets"] = head.mask_parts[0].targets(positive, matched, samples)

    head.rpn.train()  # proposals of a training step
    whole = head.loss(pyramid, samples)
    for start, losses in (("roi", head.roi_losses(pyramid, proposals, samples)), ("all", whole)):
        for theirs, ours in (("cls", "cls"), ("bbox", "box"), ("mask", "mask")):
            values = [losses[f"loss_{ours}_stage{i}"] for i in range(len(stages))] if len(stages) > 1 else []
            probes[f"{start}_loss_{theirs}"] = torch.stack(values) if values else losses[f"loss_{ours}"]
    return probes


def samples_of(inputs: dict, resized: bool = False) -> list[DataSample]:
    """The inputs' shapes and ground truth boxes as samples. resized: predictions stay in the resized image's pixels."""

    def split(values: str, counts: str) -> list[Tensor]:
        return list(inputs[values].split([int(n) for n in inputs[counts]])) if values in inputs else []

    boxes, labels = split("gt_boxes", "gt_count"), split("gt_labels", "gt_count")
    ignored, masks = split("ignored_boxes", "ignored_count"), []
    if "gt_masks_bits" in inputs:
        bits = torch.from_numpy(np.unpackbits(inputs["gt_masks_bits"].numpy(), axis=-1)).bool()
        masks = bits[..., : inputs["image"].shape[-1]].split([int(n) for n in inputs["gt_count"]])
    samples = []
    for i in range(len(inputs["image"])):
        shapes = ("img_shape", "pad_shape", "ori_shape", "scale_factor")
        meta = {key: tuple(inputs[key][i].tolist()) for key in shapes if key in inputs}
        if resized or "scale_factor" not in meta:
            meta["scale_factor"] = (1.0, 1.0)
        sample = DataSample(metainfo=meta)
        if boxes:
            sample.gt_instances = InstanceData(bboxes=boxes[i], labels=labels[i].long())
            if masks:
                sample.gt_instances.masks = masks[i]
        if ignored:
            sample.ignored_instances = InstanceData(bboxes=ignored[i])
        samples.append(sample)
    return samples
