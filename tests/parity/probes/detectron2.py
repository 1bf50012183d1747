"""Tensors of detectron2's ViT pyramids and two-stage detectors."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densevit.converters.load_weights import parts_of, recognize
from densevit.ops.roi_align import as_rois
from densevit.structures import DataSample, InstanceData

from .detectors import stages_of

ROI_LOSSES = {"loss_cls": "loss_cls", "loss_box_reg": "loss_box", "loss_mask": "loss_mask"}
RPN_LOSSES = {"loss_rpn_cls": "loss_rpn_cls", "loss_rpn_loc": "loss_rpn_box"}


def probe_detectron2(model: nn.Module, inputs: dict, spec: dict, state: Mapping) -> list[dict[str, Tensor]]:
    """Maps by their names (`last_feat`, `p2`, ...); of a detector, everything from proposals to masks in the original
    image, or losses, counts and gradients of a training step."""
    if "image_0" not in inputs:
        images = whole_patches(model, *inputs.values())
        maps = model.extract_features(images) if hasattr(model, "extract_features") else model(images)
        strides = model.neck.out_strides if hasattr(model, "neck") else model.out_strides
        return [{"last_feat": maps[-1]} | by_level(maps, strides)]
    images, samples = prepared(model, inputs, spec)
    if any(name.startswith("gt_") for name in inputs):
        with torch.enable_grad():
            return [training(model, images, samples, state)]
    features = model.extract_features(images)
    logits, deltas = model.head.rpn(features)
    probes, strides = by_level(features, model.neck.out_strides), model.neck.out_strides
    probes |= by_level(logits, strides, "rpn_logits_") | by_level(deltas, strides, "rpn_deltas_")
    return [probes | inference(model.head, features, (logits, deltas), samples)]


def by_level(maps: Sequence[Tensor], strides: Sequence[int], start: str = "") -> dict[str, Tensor]:
    """Maps under the names that detectron2 gives them: p2 has stride 4."""
    return {f"{start}p{round(math.log2(stride))}": x for x, stride in zip(maps, strides, strict=True)}


def whole_patches(model: nn.Module, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) cropped to whole patches of a ViT: detectron2 crops, we pad."""
    backbone = getattr(model, "backbone", model)
    if type(backbone).__name__ != "ViT":
        return images
    patch = backbone.out_strides[0]
    return images[..., : images.shape[2] // patch * patch, : images.shape[3] // patch * patch]


def prepared(model: nn.Module, inputs: dict, spec: dict) -> tuple[Tensor, list[DataSample]]:
    """One batch of the case's images (R, G, B, not normalized), and their samples."""
    images, samples = [], []
    for i in range(sum(name.startswith("image_") for name in inputs)):
        image = inputs[f"image_{i}"]
        height, width = image.shape[1:]
        tall, wide = spec["model"].get("output_sizes", {i: (height, width)})[i]
        shapes = dict(img_shape=(height, width), ori_shape=(tall, wide), scale_factor=(width / wide, height / tall))
        sample = DataSample(metainfo=shapes | dict(flip=False))
        if f"gt_boxes_{i}" in inputs:
            masks = np.unpackbits(inputs[f"gt_masks_{i}"].numpy(), axis=-1, count=width).astype(bool)
            sample.gt_instances = InstanceData(
                bboxes=inputs[f"gt_boxes_{i}"].float(),
                labels=inputs[f"gt_labels_{i}"].long(),
                masks=torch.from_numpy(masks),
            )
        images.append(image.flip(0) if model.data_preprocessor.bgr_to_rgb else image)
        samples.append(sample)
    batch = model.data_preprocessor({"inputs": images, "data_samples": samples})
    return whole_patches(model, batch["inputs"]), batch["data_samples"]


def inference(head: nn.Module, features: tuple, found: tuple, samples: list) -> dict[str, Tensor]:
    """From the RPN's maps to masks pasted into the original images."""
    proposals, scores = zip(*head.rpn.proposals(*found, samples), strict=True)
    probes = {
        "proposal_counts": torch.tensor([len(boxes) for boxes in proposals]),
        "proposal_boxes": torch.cat(proposals),
        "proposal_logits": torch.cat(scores),
    }
    if not hasattr(head, "boxes"):
        logits, deltas = head.box(head.box.pool(features, as_rois(proposals)))
        probes |= {"roi_cls_logits": logits, "roi_deltas": deltas.flatten(1)}
    else:
        read, outputs = head.read, []
        head.read = recording(read, outputs)
        head.stages_of(features, list(proposals), samples)
        head.read = read
        for i, (logits, deltas) in enumerate(outputs[: len(head.boxes)]):
            probes |= {f"roi_cls_logits_stage{i}": logits, f"roi_deltas_stage{i}": deltas.flatten(1)}

    found = head.detect(features, list(proposals), samples)
    probes["det_counts"] = torch.tensor([len(f) for f in found])
    for name, key in (("boxes", "bboxes"), ("scores", "scores"), ("labels", "labels")):
        probes[f"det_{name}"] = torch.cat([f[key] for f in found])
    rois = as_rois([f.bboxes for f in found])
    masks = [part.probabilities(features, rois, probes["det_labels"]) for part in head.mask_parts]
    probes["det_mask_probs"] = sum(masks) / len(masks)

    final = [fields["pred_instances"] for fields in head.predict(features, samples)]
    probes["final_boxes"] = torch.cat([f.bboxes for f in final])
    sums, by_image = [], probes["det_mask_probs"].split([len(f) for f in found])
    for masks, instances, sample in zip(by_image, final, samples, strict=True):
        sums += [soft_sum(mask, box, sample.ori_shape) for mask, box in zip(masks, instances.bboxes, strict=True)]
    probes["final_mask_soft_sum"] = torch.tensor(sums)
    return probes


def soft_sum(mask: Tensor, box: Tensor, size: tuple[int, int]) -> float:
    """The sum over an image of a mask (m, m) stretched over a box."""
    rows, columns = (
        (torch.arange(side) + 0.5 - box[i]) / (box[i + 2] - box[i]) * 2 - 1 for i, side in ((1, size[0]), (0, size[1]))
    )
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)
    return float(F.grid_sample(mask[None, None], grid[None], mode="bilinear", align_corners=False).sum())


def training(model: nn.Module, images: Tensor, samples: list, state: Mapping) -> dict[str, Tensor]:
    """Losses, numbers of sampled anchors and RoIs, and gradients of the losses' sum under the reference's names."""
    head, stages = model.head, stages_of(model.head)
    sampled: list[list] = [[] for _ in stages]
    for box, rois in zip(stages, sampled, strict=True):
        box.sample_rois, box.keep_all = recording(box.sample_rois, rois), recording(box.keep_all, rois)
    model.train()
    features = model.extract_features(images)
    losses = {k: sum(v) if isinstance(v, list) else v for k, v in head.loss(features, samples).items()}
    model.zero_grad()
    sum(losses.values()).backward()

    probes = {theirs: losses[ours] for theirs, ours in RPN_LOSSES.items()}
    ends = [f"_stage{i}" for i in range(len(stages))] if len(stages) > 1 else [""]
    for theirs, ours in ROI_LOSSES.items():
        probes |= {theirs + end: losses[ours + end] for end in ends if ours + end in losses}
    probes.setdefault("loss_mask", sum(v for k, v in losses.items() if k.startswith("loss_mask")))
    for i in range(len(ends)):
        start = f"mean_per_image/{f'stage{i}/' if i else ''}roi_head/num_"
        positive, total = (sum(n) for n in zip(*((r.positives, len(r.boxes)) for r in sampled[i]), strict=True))
        probes[f"{start}fg_samples"] = torch.tensor(positive / len(samples))
        probes[f"{start}bg_samples"] = torch.tensor((total - positive) / len(samples))
    probes |= anchors(head.rpn, features, samples)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = recognize(state, wanted, parts_of(model), "detectron2").remapped.origin
    for ours, parameter in model.named_parameters():
        if len(names[ours]) == 1 and parameter.grad is not None:
            probes[f"grad/{names[ours][0]}"] = parameter.grad
    return {key: value.detach() for key, value in probes.items()}


def anchors(rpn: nn.Module, features: tuple, samples: list) -> dict[str, Tensor]:
    """Numbers of positive and negative anchors in the sample, the mean of the images."""
    sizes, levels = rpn.anchors(features)
    found = [rpn.targets(torch.cat(levels), sizes, sample) for sample in samples]
    counts = {"pos": [(used & (index >= 0)).sum() for index, used in found]}
    counts["neg"] = [(used & (index == -1)).sum() for index, used in found]
    return {f"mean_per_image/rpn/num_{kind}_anchors": torch.stack(n).double().mean() for kind, n in counts.items()}


def recording(function, into: list):
    """`function`, with its results appended to `into`."""

    def record(*args):
        into.append(function(*args))
        return into[-1]

    return record
