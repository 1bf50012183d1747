"""Tensors of DPT's models: tokens, levels, paths, depth."""

import torch
from torch import Tensor, nn

from densevit.converters.architectures.dpt import test_resize
from densevit.converters.sources.depth_anything import PATCH
from densevit.registry import TRANSFORMS
from densevit.structures import DataSample

from .backbones import outputs_of


def dpt_tensors(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Tokens of the chosen blocks as they are read out, the levels before the fusion, and the paths within it."""
    backbone, (reassemble, fusion) = model.backbone, model.neck
    after, maps = outputs_of(backbone.blocks, lambda: backbone(image))
    levels = reassemble(maps)
    paths, _ = outputs_of(fusion.blocks, lambda: fusion(levels))
    probes = {f"layer_{i}": x for i, x in enumerate(levels, 1)}
    probes |= {f"path_{len(paths) - i}": x for i, x in enumerate(paths)}
    for i, (block, x) in enumerate(zip(backbone.out_indices, maps, strict=True)):
        tokens = after[block]
        last = backbone.final_norm == "last" and block == backbone.depth - 1
        tokens = backbone.norm(tokens) if backbone.final_norm == "all" or last else tokens
        width, first = tokens.shape[2], tokens[:, 0]
        probes |= {f"tokens_{i + 1}": tokens[:, backbone.num_prefix :], f"cls_{i + 1}": first}
        probes |= {f"feat_{i}": x[:, :width], f"feat_{i}_cls": first}
    return probes


def probe_depth(model: nn.Module, inputs: dict, spec: dict, _) -> list[dict[str, Tensor]]:
    """Depth of an image that is prepared already, or of a raw one, in its own size."""
    if "raw" not in inputs:
        (image,) = inputs.values()
        return [dpt_tensors(model, image) | {"depth": model(image)[:, 0]}]
    raw = inputs["raw"].numpy()
    resize = TRANSFORMS.build(dict(type="Resize", **test_resize(spec["model"].get("input_size", 518), PATCH)))
    results = resize({"img": raw, "img_shape": raw.shape[:2]})
    shapes = {"ori_shape": raw.shape[:2], "img_shape": results["img_shape"]}
    data = {"inputs": [torch.from_numpy(results["img"]).permute(2, 0, 1)]}
    data = model.data_preprocessor({**data, "data_samples": [DataSample(metainfo=shapes)]})
    (sample,) = model(**data, mode="predict")
    image = data["inputs"]
    return [dpt_tensors(model, image) | {"tensor": image, "depth": sample.pred_depth}]
