"""Any model of timm (github.com/huggingface/pytorch-image-models) that gives maps, as a backbone.

Nothing is downloaded: a model starts with random weights, and a file of timm's gives it trained ones.
"""

import contextlib
import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError, suggest
from densevit.models.layers.pos_embed import TableResizing, fit_table
from densevit.models.protocols import Backbone
from densevit.registry import MODELS

ANY_SIZE = dict(dynamic_img_size=True, strict_img_size=False, always_partition=True)
"""What timm's constructors call it that images of any size are taken; where it is partitioned, in windows as given."""
PROBES = {1: ((5, 7), (5, 8)), 2: ((6, 10),), 7: ((7, 14),), 8: ((8, 16),)}
"""Heights and widths of images, in strides of the coarsest map, that show whether a model takes images whose sides are
multiples of so many strides: of 1; of 2 (patches within maps: MobileViT V2), 7 or 8 (windows: MaxViT, GC ViT)."""
FINEST = 4
"""Stride of the finest map that is returned where nothing is said: heads are made for 4 and coarser."""


@MODELS.register_module()
class TimmBackbone(BaseModule, Backbone):
    """A model of timm by its name: ConvNeXt, EfficientFormer, MobileViT, LeViT, Hiera, CaiT, EVA-02, DINOv3 and others.

    Images are completed with zeros at the right and the bottom to what the model needs: a multiple of its coarsest
    stride or of a few of them, or, where its tables fix the size of images (CaiT, LeViT, Hiera, BEiT), `img_size`.
    Weights: a file of timm's (`model.safetensors` of a folder of huggingface.co/timm, fetched beforehand) by
    `init_cfg=dict(type='Pretrained', checkpoint=FILE)` or `--pretrained FILE`.

    Args:
        name: timm's, as `timm.list_models()` has it, with or without the tag behind the dot.
        out_indices: which of the model's maps are returned, from 0, fine to coarse; None: the last at each stride from
            4 on.
        img_size: side (or height and width) in pixels of the images that the model is made for; None: timm's own.
        norm: the final norm also on every map, where the model has one for them (plain transformers).
        drop_path_rate: stochastic depth.
        args: further arguments of timm's constructor.
        with_checkpointing: recompute activations in the backward pass, where the model can.

    Raises ConfigError for a name or an argument that timm does not know, and for a model that gives no maps.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        img_size: int | Sequence[int] | None = None,
        norm: bool = False,
        drop_path_rate: float = 0.0,
        args: Mapping[str, Any] | None = None,
        with_checkpointing: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.name, self.norm = name, norm
        given = dict(args or {})
        if img_size is not None:
            sides = (img_size, img_size) if isinstance(img_size, Integral) else tuple(img_size)
            given["img_size"] = sides
        if drop_path_rate:
            given["drop_path_rate"] = drop_path_rate
        self.model = create(name, given)
        self.image = tuple(given.get("img_size", self.model.pretrained_cfg["input_size"][1:]))
        every = tuple(self.model.state_dict())
        self.fixed, shapes, strides, times = self._look()
        self.divisor = times * math.lcm(*strides)
        if out_indices is None:
            coarse = {stride: i for i, stride in enumerate(strides) if stride >= min(FINEST, max(strides))}
            out_indices = tuple(coarse.values())
        elif not out_indices or not all(isinstance(i, Integral) and 0 <= i < len(shapes) for i in out_indices):
            raise ConfigError(
                f"TimmBackbone's out_indices are {tuple(out_indices)}: choose from the maps 0 to {len(shapes) - 1} of "
                f"{name}"
            )
        self.out_indices = tuple(out_indices)
        self.out_channels = tuple(shapes[i][1] for i in self.out_indices)
        self.out_strides = tuple(strides[i] for i in self.out_indices)
        self.taken = tuple(self.model.prune_intermediate_layers(list(self.out_indices), prune_norm=not norm))
        kept = set(self.model.state_dict())
        self.unused_keys = frozenset(f"model.{key}" for key in every if key not in kept)
        self.register_load_state_dict_pre_hook(_fit_tables)
        if with_checkpointing:
            with _said(f"{name} of timm cannot recompute its activations: leave with_checkpointing out"):
                self.model.set_grad_checkpointing(True)

    def _look(self) -> tuple[bool, list[torch.Size], list[int], int]:
        """Whether images of one size alone are taken, the shapes and strides of all maps, and of how many of the
        coarsest strides a side has to be a multiple."""
        coarsest = max(round(info["reduction"]) for info in self.model.feature_info)
        for times, probes in PROBES.items():
            for sides in probes:
                size = tuple(n * coarsest for n in sides)
                if math.prod(size) == math.prod(self.image):  # as many tokens as its tables have say nothing
                    continue
                with contextlib.suppress(AssertionError, RuntimeError, ValueError, ConfigError):
                    shapes = self._shapes(size)
                    return False, shapes, [_stride(self.name, size, shape) for shape in shapes], times
                break
        with _said(f"{self.name} of timm gives no maps of images of {self.image}"):
            shapes = self._shapes(self.image)
        return True, shapes, [_stride(self.name, self.image, shape) for shape in shapes], 1

    def _shapes(self, size: tuple[int, int]) -> list[torch.Size]:
        """Of all maps of an image of this size."""
        image, was = torch.zeros(1, 3, *size, device=next(self.model.parameters()).device), self.model.training
        try:
            with torch.no_grad():
                maps = self.model.eval().forward_intermediates(image, norm=self.norm, intermediates_only=True)
        finally:
            self.model.train(was)
        return [x.shape for x in maps]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each of out_indices."""
        height, width = images.shape[2:]
        if not self.fixed:
            wanted = tuple(-(-side // self.divisor) * self.divisor for side in (height, width))
        elif height <= self.image[0] and width <= self.image[1]:
            wanted = self.image
        else:
            raise ConfigError(
                f"{self.name} of timm is made for images of {self.image[0]} x {self.image[1]} pixels at most, and "
                f"here is one of {height} x {width}: give TimmBackbone img_size=(height, width) of the largest."
            )
        if wanted != (height, width):
            images = F.pad(images, (0, wanted[1] - width, 0, wanted[0] - height))  # zeros at the right and the bottom
        maps = self.model.forward_intermediates(
            images, indices=list(self.taken), norm=self.norm, stop_early=True, intermediates_only=True
        )
        return tuple(
            x[:, :, : -(-height // stride), : -(-width // stride)]  # cut to ceil(size / stride)
            for x, stride in zip(maps, self.out_strides, strict=True)
        )

    @property
    def num_layers(self) -> int:
        """How many layers timm counts, less what makes the tokens."""
        return max(self._layers.values())

    def layer_of(self, name: str) -> int:
        """Of a parameter: timm's own grouping, from 0 for what makes the tokens."""
        return self._layers[name.removeprefix("model.")]

    @cached_property
    def _layers(self) -> dict[str, int]:
        from timm.models import group_parameters

        with _said(
            f"{self.name} of timm does not say the order of its layers: leave LayerDecayOptimWrapperConstructor out"
        ):
            return group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)


def create(name: str, given: Mapping[str, Any]) -> nn.Module:
    """timm's model of this name with random weights, for images of any size where it can be.

    Raises ConfigError for a name or an argument that it does not know, or a model without maps.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"TimmBackbone({name!r}) needs timm: pip install timm") from error
    if ":" in name or not timm.is_model(name.split(".")[0]):
        close = suggest(name.split(".")[0], timm.list_models())
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{close}: see timm.list_models()")
    with _said(f"timm cannot build {name} with {dict(given)}"):
        with torch.device("meta"):
            known = _arguments(type(timm.create_model(name)))
        options = {key: value for key, value in ANY_SIZE.items() if key in known}
        model = timm.create_model(name, **options, **given)
    if not all(hasattr(model, part) for part in ("forward_intermediates", "feature_info", "prune_intermediate_layers")):
        raise ConfigError(f"{name} of timm gives no maps of its inside (forward_intermediates): take another model")
    return model


def _arguments(kind: type) -> set[str]:
    """The names of a constructor's arguments, its bases' included."""
    return {key for base in kind.__mro__[:-1] for key in inspect.signature(base.__init__).parameters}


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Whatever timm raises, as a sentence."""
    try:
        yield
    except Exception as error:
        raise ConfigError(f"{what} ({' '.join(str(error).split()) or type(error).__name__})") from error


def _stride(name: str, image: tuple[int, int], shape: torch.Size) -> int:
    """Of a map (1, C, h, w) of an image whose sides it divides."""
    if len(shape) == 4 and shape[2] and image[0] % shape[2] == 0 and shape[3] * image[0] == shape[2] * image[1]:
        return image[0] // shape[2]
    raise ConfigError(
        f"{name} of timm gives no maps that lie on its images in whole steps: of {image[0]} x {image[1]} pixels one of "
        f"{tuple(shape[2:])}; take another model"
    )


def _fit(value: Tensor, ours: Tensor, image: tuple[int, int], strides: Sequence[int]) -> Tensor | None:
    """A table of positions of a square grid for ours: (1, N, C), (1, C, h, w), or (heads, N) by distance (LeViT)."""
    if value.ndim == 4 and ours.ndim == 4 and value.shape[:2] == ours.shape[:2]:
        return F.interpolate(value, ours.shape[2:], mode="bicubic", align_corners=False)
    by_heads = value.ndim == 2 and ours.ndim == 2 and len(value) == len(ours)
    if not by_heads and not (value.ndim == 3 and ours.ndim == 3 and value.shape[2] == ours.shape[2]):
        return None
    count = ours.shape[1]
    grids = [(-(-image[0] // n), -(-image[1] // n)) for n in dict.fromkeys((*strides, *(2**i for i in range(1, 8))))]
    found = ((rows, grid) for rows in range(3) for grid in grids if grid[0] * grid[1] == count - rows)
    rows, grid = next(found, (0, None))
    if grid is None:
        return None
    table = value.t()[None] if by_heads else value  # (1, N, heads), the form of other tables
    fitted = fit_table(table, rows, grid, TableResizing())
    return fitted[0].t() if by_heads and fitted is not None else fitted


def _fit_tables(backbone: TimmBackbone, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Tables and kernels of another size are resized while they are loaded, as timm itself does where it can."""
    model, start = backbone.model, f"{prefix}model."
    ours = model.state_dict()
    odd = {
        key.removeprefix(start): value
        for key, value in state_dict.items()
        if key.startswith(start) and value.shape != ours.get(key.removeprefix(start), value).shape
    }
    if not odd:
        return
    fitted = [(key, _fit(value, ours[key], backbone.image, backbone.out_strides)) for key, value in odd.items()]
    with contextlib.suppress(Exception):  # made for whole files: it may fail on a part, and ours stay
        fitted += sys.modules[type(model).__module__].checkpoint_filter_fn(dict(odd), model).items()
    for key, value in fitted:
        if key in odd and value is not None and value.shape == ours[key].shape:
            state_dict[start + key] = value
