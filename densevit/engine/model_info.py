"""Parameters and multiply-adds of a model, part by part."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densevit.errors import ConfigError
from densevit.plain_data import entries
from densevit.registry import MODELS

COCO_CLASSES = 80
"""Of a model whose recipe leaves the number of classes to its dataset."""


class Part(NamedTuple):
    """name: of the part, dotted; parameters: its own; multiply_adds: of one image; regions: the number of RoIs that a
    part of a two-stage head was counted with, None for all other parts."""

    name: str
    parameters: int
    multiply_adds: int
    regions: int | None = None


def model_info(config: Config, size: tuple[int, int], classes: int = COCO_CLASSES) -> list[Part]:
    """Backbone, neck(s), each head or its parts, and auxiliary heads (which only training runs), of a recipe's model.

    Counted by torch's FlopCounterMode on meta tensors: convolutions, matrix products and attention; a
    multiply-add counts once, as in the papers' tables. A two-stage head is counted with as many regions as it keeps at
    most: mmdetection's way, which the papers' tables follow.

    Args:
        config: a recipe.
        size: (height, width) of the network's input.
        classes: how many, where the recipe leaves them to its dataset.
    """
    if min(*size, classes) < 1:
        raise ConfigError(
            f"an image of {size[0]} x {size[1]} pixels with {classes} classes cannot be: take 1 at least."
        )
    settings = config.model.to_dict()
    for _, part, key in entries(settings):
        if key == "init_cfg":  # nothing is downloaded to count
            part[key] = None
    if settings.get("classes") is None:
        settings["classes"] = [str(i) for i in range(classes)]
    with torch.device("meta"):
        model = MODELS.build(settings).eval()
        image = torch.empty(1, 3, *size)
    counts = _count(model, lambda: model(image))
    necks = model.neck if isinstance(model.neck, nn.ModuleList) else [model.neck]
    parts = [_part("backbone", model.backbone, counts)]
    parts += [
        _part(name, neck, counts)
        for name, neck in zip(_numbered("neck", len(necks)), necks, strict=True)
        if neck is not None
    ]
    for name, head in model.heads():
        parts += _parts_of_head(f"head.{name}" if name else "head", head, counts)
    parts += [_part(f"auxiliary.{i}", head, counts) for i, head in enumerate(model.auxiliary)]
    return parts


def _parts_of_head(name: str, head: nn.Module, counts: Mapping[nn.Module, int]) -> list[Part]:
    """A head, or, of a two-stage head, the parts that work on RoIs and the rest."""
    if not head.roi_parts():
        return [_part(name, head, counts)]
    parts = []
    for inner, part, shape, regions in head.roi_parts():
        region = torch.empty(1, *shape, device="meta")
        work = _count(part, lambda part=part, region=region: part(region))[part]
        parts.append(Part(f"{name}.{inner}", _parameters(part), work * regions, regions))
    rest = _parameters(head) - sum(part.parameters for part in parts)
    return [Part(f"{name}.rpn", rest, counts.get(head, 0)), *parts]


def _part(name: str, part: nn.Module, counts: Mapping[nn.Module, int]) -> Part:
    return Part(name, _parameters(part), counts.get(part, 0))


def _parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _count(model: nn.Module, run: Callable[[], object]) -> dict[nn.Module, int]:
    """Module -> multiply-adds of a run."""
    with warnings.catch_warnings(), FlopCounterMode(display=False) as counter, torch.no_grad():
        warnings.simplefilter("ignore")
        run()
    by_name = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    root = type(model).__name__
    return {
        module: by_name.get(f"{root}.{name}" if name else root, 0)
        for name, module in model.named_modules(remove_duplicate=False)
    }


def _numbered(name: str, many: int) -> Sequence[str]:
    return [name] if many == 1 else [f"{name}.{i}" for i in range(many)]


def table(parts: Sequence[Part]) -> str:
    """The parts in lines, their sum last."""
    total = Part("in all", sum(p.parameters for p in parts), sum(p.multiply_adds for p in parts))
    rows = [("part", "parameters", "multiply-adds", "")]
    for part in (*parts, total):
        regions = f"{part.regions} regions" if part.regions else ""
        rows.append((part.name, f"{part.parameters / 1e6:.2f} M", f"{part.multiply_adds / 1e9:.1f} G", regions))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows)
