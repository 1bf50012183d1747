#!/usr/bin/env python
"""Compare our numbers with those of other projects' own code, case by case.

A case is NAME.json with NAME.npz beside it: the reference's configuration in its own terms, the names and shapes of
its state dict (each tensor is drawn from its name, so that files stay small), inputs and outputs. Our model is built
from that configuration and loaded by the same code that serves users, `densevit.checkpoints`. Exit code 1 when a case
failed.
"""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

FLIPPED_PIXELS = re.compile(r"det_masks_bits_\d+|det_mask_area")
"""Outputs of masks after the threshold: a few pixels lie within rounding of it and may flip."""
FLIPPED_LIMIT = 4
EXACT = re.compile(r"det_labels|(det|proposal)_counts?|roi_labels|mean_per_image/.*|(whole|slide)_pred_\d+")
WHOLE_LIMIT = 20_000
"""Outputs of more values are kept at this many locations."""


class Case:
    """One case read from its two files; see the module's docstring."""

    def __init__(self, path: Path):
        self.spec = json.loads(path.read_text())
        self.name = self.spec["name"]
        with np.load(path.with_suffix(".npz")) as file:
            self.arrays = {key: file[key] for key in file.files}

    def state(self) -> dict[str, np.ndarray]:
        """The reference's state dict."""
        drawn = {entry[0]: draw(*entry) for entry in self.spec["state"]}
        return drawn | {k.removeprefix("state/"): v for k, v in self.arrays.items() if k.startswith("state/")}

    def inputs(self) -> dict[str, np.ndarray]:
        """The inputs by name."""
        return {
            name: draw(*how["draw"]) if "draw" in how else self.arrays[f"input/{name}"]
            for name, how in self.spec["inputs"].items()
        }

    def error(self, name: str, ours: np.ndarray) -> float:
        """max|ours - theirs| / max|theirs| of an output, at the locations that the case keeps."""
        want = self.spec["outputs"][name]
        if list(ours.shape) != list(want["shape"]):
            raise ValueError(f"{name} has shape {list(ours.shape)}, expected {want['shape']}")
        theirs = self.arrays[f"output/{name}"].reshape(-1).astype(np.float64)
        got = ours.reshape(-1).astype(np.float64)[sampling_locations(name, ours.size)]
        if theirs.size == 0:
            return 0.0
        worst = np.abs(got - theirs).max() / max(np.abs(theirs).max(), 1e-12)
        return float(worst) if np.isfinite(worst) else float("inf")

    def flipped(self, name: str, ours: np.ndarray) -> int:
        """Pixels that differ, of an output of packed bits or of areas, at the locations that the case keeps."""
        self.error(name, ours)  # the shape
        theirs = self.arrays[f"output/{name}"].reshape(-1)
        got = ours.reshape(-1)[sampling_locations(name, ours.size)]
        if theirs.dtype == np.uint8:
            return int(np.unpackbits(theirs ^ got.astype(np.uint8)).sum())
        return int(np.abs(theirs.astype(np.int64) - got).max(initial=0))


def draw(key: str, shape: list[int], mean: float = 0.0, std: float = 1.0, absolute: bool = False) -> np.ndarray:
    """The float32 array of a name: normal numbers seeded by the name's checksum."""
    numbers = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    return (mean + std * (np.abs(numbers) if absolute else numbers)).astype(np.float32)


def sampling_locations(name: str, size: int) -> np.ndarray:
    """Locations of a flattened output of `size` values that a case keeps."""
    if size <= WHOLE_LIMIT:
        return np.arange(size)
    random = np.random.RandomState(zlib.crc32(f"sample:{name}".encode()))
    return np.sort(random.randint(0, size, WHOLE_LIMIT).astype(np.int64))


# ---- probes: which of our tensors an output of the reference is --------------------------------------

LEFT_OUT = re.compile(r"(features|logits|probabilities|probs|cls_token|stage\d+_cls)$")
"""Outputs of parts that we do not have: classification, and a class token's own output."""


def probe_backbone(model, inputs: dict) -> tuple[dict[str, dict], list[str]]:
    """Maps and, as `stage1_tokens`, the tokens after a stage's last block, before any norm. Returns the readings, each
    name -> tensor, and what is left out. Projects count differently: `stage_0`, `stage0`, `p0` the stages or the
    outputs from 0, `stage1` the stages from 1; the reading whose names and shapes fit is taken.

    PVT v1's classifier lets a class token attend in stage 4, which a dense backbone has not: left out.
    """
    tokens, hooks = {}, []
    for stage in range(model.num_stages):
        blocks = model.layers[stage].blocks if hasattr(model, "layers") else getattr(model, f"block{stage + 1}")
        hooks.append(blocks[-1].register_forward_hook(lambda _, __, out, stage=stage: tokens.update({stage: out})))
    maps = model(*inputs.values())
    for hook in hooks:
        hook.remove()
    ends = {f"stage{i + 1}_tokens": value for i, value in tokens.items()}
    left_out = []
    if type(model).__name__ == "PVT":
        ends.pop("stage4_tokens", None)
        left_out = ["stage4_tokens"]
    readings = {"from 1": ends | {f"stage{i + 1}": image for i, image in zip(model.out_indices, maps, strict=True)}}
    for kind, locations in (("by stage", model.out_indices), ("counted", range(len(maps)))):
        named = zip(locations, maps, strict=True)
        readings[kind] = ends | {f"{name}{i}": image for i, image in named for name in ("stage_", "stage", "p")}
    return readings, left_out


def probe_vit(model, inputs: dict) -> tuple[dict[str, dict], list[str]]:
    """Maps in their order (`out_0`, the class token beside it), tokens after a block as they are (`block0`,
    `x_prenorm`) and normed (`layer0` as a map, `cls0`, `latent`), tables of positions and rotary angles."""
    import torch

    from densevit.models.layers.pos_embed import sincos_table
    from densevit.models.layers.tokens import to_map

    after: dict = {}
    hooks = [
        b.register_forward_hook(lambda _, __, out, i=i: after.update({i: out})) for i, b in enumerate(model.blocks)
    ]
    (image,) = inputs.values()
    maps, size = model(image), model.embed(image)[1]
    for hook in hooks:
        hook.remove()
    last, first = after[max(after)], model.num_prefix
    width = last.shape[2]
    probes = {f"out_{i}": x[:, :width] for i, x in enumerate(maps)}
    if model.append_cls_token:
        probes |= {f"out_{i}_cls": x[:, width:, 0, 0] for i, x in enumerate(maps)}
    probes |= {f"block{i}": x for i, x in after.items()} | {"x_prenorm": last}
    if model.norm is not None:
        normed = {
            i: torch.cat(((model.cls_norm or model.norm)(x[:, :first]), model.norm(x[:, first:])), 1)
            for i, x in after.items()
        }
        for i, x in normed.items():
            probes |= {f"layer{i}": to_map(x[:, first:], size), f"cls{i}": x[:, 0]}
        end = normed[max(normed)]
        probes |= {"latent": end, "cls": end[:, 0], "dist": end[:, 1]}
        if model.register_tokens is not None:
            registers = end[:, first - model.register_tokens.shape[1] : first]
            probes |= {"x_norm_regtokens": registers, "x_storage_tokens": registers}
    if model.pos_embed is not None:
        probes["pos"] = model.position_table(size)
        rows = probes["pos"].new_zeros(1, model.table_rows, width)
        probes["sincos_pos_embed"] = torch.cat((rows, sincos_table(model.grid, width)), 1)
    else:
        angles = model.rope_embed.angles(size)
        probes |= {"rope_sin": angles.sin(), "rope_cos": angles.cos()}
    return {"": probes}, []


def probe_adapter(model, inputs: dict) -> tuple[dict[str, dict], list[str]]:
    """The four maps, `c1` the finest."""
    return {"": {f"c{i + 1}": x for i, x in zip(model.out_indices, model(*inputs.values()), strict=True)}}, []


def probe_detector(model, inputs: dict) -> tuple[dict[str, dict], list[str]]:
    """Pyramid, raw maps, losses a level and final detections of a one-stage detector."""
    import torch

    features = model.backbone(inputs["image"])
    stages = {f"stage_{i}": x for i, x in zip(model.backbone.out_indices, features, strict=True)}
    pyramid = model.neck(features)
    probes = stages | {f"fpn_{i}": x for i, x in enumerate(pyramid)}
    logits, deltas = model.head(pyramid)
    probes["cls"] = torch.cat([x.flatten(1) for x in logits], 1)
    probes["reg"] = torch.cat([x.flatten(1) for x in deltas], 1)
    if "gt_boxes" in inputs:
        losses = model.head.loss(pyramid, samples_of(inputs))
        probes["loss_cls"], probes["loss_bbox"] = (torch.stack(losses[k]) for k in ("loss_cls", "loss_box"))
    if "img_shape" in inputs:
        found = [p["pred_instances"] for p in model.head.predict(pyramid, samples_of(inputs, resized=True))]
        probes["det_boxes"] = torch.cat([p.bboxes for p in found])
        restored = [p["pred_instances"] for p in model.head.predict(pyramid, samples_of(inputs))]
        probes["det_boxes_rescaled"] = torch.cat([p.bboxes for p in restored])
        probes["det_scores"] = torch.cat([p.scores for p in found])
        probes["det_labels"] = torch.cat([p.labels for p in found])
        probes["det_count"] = torch.tensor([len(p) for p in found])
    return {"": probes}, []


def probe_rcnn(model, inputs: dict) -> tuple[dict[str, dict], list[str]]:
    """Pyramid, proposals, the second stage at given regions, losses and final detections of a two-stage detector."""
    import torch

    features = model.backbone(inputs["image"])
    probes = {f"stage_{i}": x for i, x in zip(model.backbone.out_indices, features, strict=True)}
    pyramid, head = model.neck(features), model.head
    probes |= {f"fpn_{i}": x for i, x in enumerate(pyramid)}
    logits, deltas = head.rpn(pyramid)
    probes["rpn_cls"] = torch.cat([x.flatten(1) for x in logits], 1)
    probes["rpn_reg"] = torch.cat([x.flatten(1) for x in deltas], 1)
    stages = list(head.boxes) if hasattr(head, "boxes") else [head.box]
    if "gt_boxes" in inputs:
        probes |= rcnn_losses(head, pyramid, logits, deltas, stages, inputs)
        return {"": probes}, []

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

    found = [p["pred_instances"] for p in head.predict(pyramid, samples_of(inputs, resized=True))]
    probes["det_boxes"] = torch.cat([p.bboxes for p in found])
    found = [p["pred_instances"] for p in head.predict(pyramid, samples)]
    probes["det_boxes_rescaled"] = torch.cat([p.bboxes for p in found])
    probes["det_scores"], probes["det_labels"] = (torch.cat([p[k] for p in found]) for k in ("scores", "labels"))
    probes["det_count"] = torch.tensor([len(p) for p in found])
    masks = [np.stack([decode(rle) for rle in p.masks]) if len(p) else np.zeros((0, 1, 1)) for p in found]
    probes |= {f"det_masks_bits_{i}": torch.from_numpy(np.packbits(m.astype(bool), -1)) for i, m in enumerate(masks)}
    probes["det_mask_area"] = torch.tensor([int(mask.sum()) for image in masks for mask in image])
    return {"": probes}, []


def decode(rle: dict) -> np.ndarray:
    """The bitmap of a COCO RLE."""
    from densevit.ops.masks import decode_rle

    return decode_rle(rle)


def rcnn_losses(head, pyramid: list, logits: list, deltas: list, stages: list, inputs: dict) -> dict:
    """Targets and losses of a two-stage detector, for the proposals that the case gives and for the head's own."""
    import torch

    samples = samples_of(inputs)
    own = head.rpn.loss(logits, deltas, samples)
    probes = {name: torch.stack(own[ours]) for name, ours in RPN_LOSSES.items()}
    proposals = inputs["proposals"].split([int(n) for n in inputs["proposal_count"]])
    regions = [stages[0].sample_rois(boxes, sample) for boxes, sample in zip(proposals, samples, strict=True)]
    probes["roi_labels"] = stages[0].labels(regions, samples)
    targets = []
    for region, sample in zip(regions, samples, strict=True):
        target = torch.zeros_like(region.boxes)
        ground_truth = sample.gt_instances.bboxes[region.matched_gt_of_positive]
        target[: region.positives] = encode(region.positive, ground_truth, stages[0].coder)
        targets.append(target)
    probes["roi_bbox_targets"] = torch.cat(targets)
    positive, ground_truth = [r.positive for r in regions], [r.matched_gt_of_positive for r in regions]
    probes["mask_targets"] = head.mask_parts[0].targets(positive, ground_truth, samples)

    head.rpn.train()  # proposals of a training step
    whole = head.loss(pyramid, samples)
    for start, losses in (("roi", head.roi_losses(pyramid, proposals, samples)), ("all", whole)):
        for theirs, ours in (("cls", "cls"), ("bbox", "box"), ("mask", "mask")):
            values = [losses[f"loss_{ours}_stage{i}"] for i in range(len(stages))] if len(stages) > 1 else []
            probes[f"{start}_loss_{theirs}"] = torch.stack(values) if values else losses[f"loss_{ours}"]
    return probes


RPN_LOSSES = {"loss_rpn_cls": "loss_rpn_cls", "loss_rpn_bbox": "loss_rpn_box"}


def encode(boxes, ground_truth, coder: dict):
    """Deltas of boxes to their ground truth."""
    from densevit.ops.boxes import encode_deltas

    return encode_deltas(boxes, ground_truth, **coder)


def samples_of(inputs: dict, resized: bool = False) -> list:
    """The inputs' shapes and true boxes as samples. resized: predictions stay in the resized image's pixels."""
    import torch

    from densevit.structures import DataSample, InstanceData

    def split(values: str, counts: str) -> list:
        return list(inputs[values].split([int(n) for n in inputs[counts]])) if values in inputs else []

    boxes, labels = split("gt_boxes", "gt_count"), split("gt_labels", "gt_count")
    ignored = split("ignored_boxes", "ignored_count")
    masks = []
    if "gt_masks_bits" in inputs:
        bits = torch.from_numpy(np.unpackbits(inputs["gt_masks_bits"].numpy(), axis=-1)).bool()
        masks = bits[..., : inputs["image"].shape[-1]].split([int(n) for n in inputs["gt_count"]])
    samples = []
    for i in range(len(inputs["image"])):
        meta = {key: tuple(inputs[key][i].tolist()) for key in ("img_shape", "pad_shape", "ori_shape") if key in inputs}
        meta["scale_factor"] = (
            (1.0, 1.0) if resized or "scale_factor" not in inputs else tuple(inputs["scale_factor"][i].tolist())
        )
        sample = DataSample(metainfo=meta)
        if boxes:
            sample.gt_instances = InstanceData(bboxes=boxes[i], labels=labels[i].long())
            if masks:
                sample.gt_instances.masks = masks[i]
        if ignored:
            sample.ignored_instances = InstanceData(bboxes=ignored[i])
        samples.append(sample)
    return samples


# ---- one case ----------------------------------------------------------------------------------------


def check(path: Path, tolerance: float | None) -> tuple[str, str, list[str]]:
    """Run one case. Returns its verdict (ok, FAIL, SKIP, PART), what to print after the name, and further lines."""
    import torch
    from parity_detectron2 import probe_detectron2
    from parity_dpt import probe_depth
    from parity_mvit import probe_mvit
    from parity_segmentors import behind_maps, probe_segmentor

    from densevit.converters import build, load_weights
    from densevit.converters.config_spec import UnsupportedModelError
    from densevit.errors import UserError

    case = Case(path)
    if not case.spec["state"]:
        return "PART", "calls of single parts, for tests written by hand", []
    try:
        state = {key: torch.from_numpy(np.asarray(value)) for key, value in case.state().items()}
        if "decode_head" in case.spec["model"] and "backbone" not in case.spec["model"]:
            model = build("densevit", behind_maps(case.spec, case.inputs()))
        else:
            model = build(case.spec["scheme"], case.spec["model"], names=state.keys())
    except UnsupportedModelError as reason:
        return "SKIP", str(reason), []
    except UserError as error:
        return "FAIL", str(error), []
    try:
        report = load_weights(model, state, source=case.spec["scheme"])
        inputs = {key: torch.from_numpy(value) for key, value in case.inputs().items()}
        with torch.no_grad():
            probe = probe_detector if hasattr(model, "backbone") else probe_backbone
            if type(model).__name__ == "ViT":
                probe = probe_vit
            if type(model).__name__ == "MViTv2":
                probe = probe_mvit
            if type(model).__name__ == "ViTAdapter":
                probe = probe_adapter
            if hasattr(model, "head") and hasattr(model.head, "rpn"):
                probe = probe_rcnn
            pyramid = hasattr(model, "backbone") or type(model).__name__ == "ViT"
            if case.spec["scheme"] == "detectron2" and pyramid:
                readings, left_out = probe_detectron2(model.eval(), inputs, case.spec, state)
            elif getattr(getattr(model, "head", None), "semantic", False):
                readings, left_out = probe_segmentor(model.eval(), inputs, case.spec)
            elif getattr(getattr(model, "head", None), "pred_key", None) == "pred_depth":
                readings, left_out = probe_depth(model.eval(), inputs, case.spec)
            else:
                readings, left_out = probe(model.eval(), inputs)
    except UserError as error:
        return "FAIL", str(error), []
    names = list(case.spec["outputs"])
    shapes = {name: tuple(how["shape"]) for name, how in case.spec["outputs"].items()}

    def fits(reading: dict) -> tuple[int, int]:
        known = [name for name in names if name in reading]
        return sum(tuple(reading[name].shape) == shapes[name] for name in known), len(known)

    probes = {name: x.detach() for name, x in max(readings.values(), key=fits).items()}  # a table may be a parameter
    limit = case.spec["tolerance"] if tolerance is None else tolerance
    errors, faults, aside = {}, [], []
    for name in names:
        if name in left_out or (name not in probes and LEFT_OUT.match(name)):
            aside.append(name)
        elif name not in probes:
            faults.append(f"no tensor of ours is {name}")
        else:
            try:
                if FLIPPED_PIXELS.fullmatch(name) and tolerance is None:
                    if (number := case.flipped(name, probes[name].numpy())) > FLIPPED_LIMIT:
                        faults.append(f"{name}: {number} pixels differ")
                    errors[name] = 0.0
                else:
                    errors[name] = case.error(name, probes[name].numpy())
            except ValueError as error:
                faults.append(str(error))
    exact = [name for name in errors if EXACT.fullmatch(name) and errors[name] > 0]
    worst = max(errors, key=errors.get, default=None)
    if worst is None:
        faults.append("nothing was compared")
    failed = faults or exact or errors[worst] > limit
    text = f"compared {len(errors)} of {len(names)} outputs"
    if worst is not None:
        text += f"  {worst} {errors[worst]:.2e}"
    lines = [str(report)] + [f"not compared: {name}" for name in aside] + [f"{n} {e:.2e}" for n, e in errors.items()]
    return "FAIL" if failed else "ok", "; ".join([text, *faults, *(f"{n} differ" for n in exact)]), lines


def cases(paths: list[Path]) -> Iterator[Path]:
    """The cases of files and folders, in order of their names."""
    for path in paths:
        if path.is_dir():
            yield from (p for p in sorted(path.glob("*.json")) if p.with_suffix(".npz").is_file())
        else:
            yield path.with_suffix(".json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a case (.json) or a folder of them")
    parser.add_argument("--tolerance", type=float, help="largest allowed error, instead of each case's own")
    parser.add_argument("--verbose", action="store_true", help="also every output's error, and what was not compared")
    args = parser.parse_args()

    from densevit.errors import DataError, exit_on_user_error

    verdicts = []
    with exit_on_user_error():
        for path in cases(args.paths):
            if not path.is_file() or not path.with_suffix(".npz").is_file():
                raise DataError(f"{path}: no such case (it takes a .json and a .npz of the same name).")
            verdict, text, lines = check(path, args.tolerance)
            verdicts.append(verdict)
            print(f"{verdict:<4} {path.stem}  {text}", flush=True)
            for line in lines if args.verbose else ():
                print(f"       {line}")
        if not verdicts:
            raise DataError(f"{', '.join(map(str, args.paths))}: no cases (.json with .npz) there.")
    print(f"{verdicts.count('ok')} passed, {verdicts.count('FAIL')} failed, {verdicts.count('SKIP')} skipped")
    sys.exit(1 if "FAIL" in verdicts else 0)


if __name__ == "__main__":
    main()
