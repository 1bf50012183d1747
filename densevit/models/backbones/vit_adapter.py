"""ViT-Adapter (arXiv 2205.08534): a plain ViT and a small convolutional branch that exchange features; four maps.

Parameter names are those of github.com/czczup/ViT-Adapter, those of its ViT behind `vit.`.

Shape letters: B batch, C channels, H, W size of the image completed to multiples of 32, P tokens before the patches,
N patches, S locations of the maps at strides 8, 16 and 32 together.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.errors import ConfigError, suggest
from densevit.kernels.linear import apply_linear
from densevit.models.backbones.vit import ViT
from densevit.models.layers.conv_tower import BatchNorm
from densevit.models.layers.deformable_attention import (
    DeformableAttention,
    SamplingLocations,
    SpatialShapes,
    sampling_locations,
)
from densevit.models.layers.drop_path import DropPath
from densevit.models.layers.init import init_transformer
from densevit.models.layers.tokens import to_map, to_tokens
from densevit.models.protocols import Backbone
from densevit.registry import MODELS

STRIDES = (4, 8, 16, 32)
VIT_MAPS = ("last", "each", None)
NOT_TAKEN = ("out_indices", "final_norm", "tokens.append_cls", "tokens.cls_norm")
"""Options of ViT about maps of its own, which an adapter does not ask it for."""
Sizes = Sequence[tuple[int, int]]


def conv_norm(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    """A convolution of 3x3, batch norm and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return [conv, BatchNorm(out_channels), nn.ReLU(inplace=True)]


class SpatialPrior(nn.Module):
    """The convolutional branch: maps of C channels at strides 4 (optional), 8, 16 and 32."""

    def __init__(self, width: int, dim: int, finest: bool):
        super().__init__()
        layers = [*conv_norm(3, width, 2), *conv_norm(width, width, 1), *conv_norm(width, width, 1)]
        self.stem = nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1))
        self.conv2 = nn.Sequential(*conv_norm(width, 2 * width, 2))
        self.conv3 = nn.Sequential(*conv_norm(2 * width, 4 * width, 2))
        self.conv4 = nn.Sequential(*conv_norm(4 * width, 4 * width, 2))
        self.fc1 = nn.Conv2d(width, dim, 1) if finest else None
        self.fc2 = nn.Conv2d(2 * width, dim, 1)
        self.fc3 = nn.Conv2d(4 * width, dim, 1)
        self.fc4 = nn.Conv2d(4 * width, dim, 1)

    def forward(self, images: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """images: (B, 3, H, W). Returns the map at stride 4, or None, and the other three."""
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return self.fc1(c1) if self.fc1 is not None else None, [self.fc2(c2), self.fc3(c3), self.fc4(c4)]


class ConvFFN(nn.Module):
    """Linear, depth-wise convolution on each of the three maps, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        """x: (B, S, C)."""
        # of each of the three maps: (B, h*w, hidden)
        parts = apply_linear(self.fc1, x).split([height * width for height, width in sizes], 1)
        maps = [self.dwconv(to_map(part, size)) for part, size in zip(parts, sizes, strict=True)]
        return apply_linear(self.fc2, F.gelu(torch.cat([to_tokens(image) for image in maps], 1)))


class Injector(nn.Module):
    """The ViT's patches attend to the branch's three maps; `gamma` scales what is added to them."""

    def __init__(self, dim: int, eps: float, init_value: float, **attention: float):
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn = DeformableAttention(dim, levels=3, **attention)
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, patches: Tensor, maps: Tensor, locations: SamplingLocations) -> Tensor:
        """patches: (B, N, C), maps: (B, S, C), locations: of the patches on the maps. Returns (B, N, C)."""
        return patches + self.gamma * self.attn(self.query_norm(patches), self.feat_norm(maps), locations)


class Extractor(nn.Module):
    """The branch's three maps attend to the ViT's patches; then a convolutional FFN (`hidden_dim`; 0: none)."""

    def __init__(self, dim: int, eps: float, hidden_dim: int, drop_path: float, **attention: float):
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attn = DeformableAttention(dim, levels=1, **attention)
        if hidden_dim:
            self.ffn_norm, self.ffn = nn.LayerNorm(dim, eps=eps), ConvFFN(dim, hidden_dim)
            self.drop_path = DropPath(drop_path)
        self.hidden_dim = hidden_dim

    def forward(self, maps: Tensor, patches: Tensor, locations: SamplingLocations, sizes: Sizes) -> Tensor:
        """maps: (B, S, C), patches: (B, N, C), locations: of the maps on the patches. Returns (B, S, C)."""
        maps = maps + self.attn(self.query_norm(maps), self.feat_norm(patches), locations)
        return maps + self.drop_path(self.ffn(self.ffn_norm(maps), sizes)) if self.hidden_dim else maps


class Interaction(nn.Module):
    """What happens before and after some of the ViT's blocks."""

    def __init__(self, injector: Injector, extractor: Extractor, extra_extractors: list[Extractor]):
        super().__init__()
        self.injector, self.extractor = injector, extractor
        self.extra_extractors = nn.ModuleList(extra_extractors)


@MODELS.register_module()
class ViTAdapter(BaseModule, Backbone):
    """Four maps at strides 4, 8, 16 and 32 from a plain ViT of any patch size.

    The image is completed with zeros to multiples of 32. Where the ViT's own grid is another (a patch of 14 pixels),
    both keep their locations in the image, and the ViT's maps are resized by the ratio of the strides. Tokens before
    the patches go through the blocks and take no other part.

    Args:
        vit: config of the ViT, `dict(type='ViT', ...)`, which has no norm behind its last block.
        interaction_indexes: first and last block (from 0) of each interaction; None: four of equally many blocks.
        conv_inplane: channels of the convolutional branch's stem.
        deform_num_heads, n_points, deform_ratio: heads of the deformable attention, its points on each level, and the
            channels of its values by the ViT's.
        init_values: start of the injectors' factors.
        with_cffn, cffn_ratio: whether extractors have a convolutional feed-forward part, and its hidden channels by the
            ViT's. Its stochastic depth is that of the ViT's last block.
        use_extra_extractor: two more extractors at the end.
        add_vit_feature: what of the ViT is added to the four maps: 'last', its patches after the last interaction, to
            all of them (the repository's detectors); 'each', those after one of four interactions to one map each, in
            their order (its segmentation models); None, nothing.
        out_indices: which of the four maps are returned.
        with_checkpointing: recompute blocks, injectors and extractors in the backward pass instead of keeping their
            activations.

    Raises ConfigError for an option that does not exist or does not go with another.
    """

    def __init__(
        self,
        vit: Mapping,
        interaction_indexes: Sequence[Sequence[int]] | None = None,
        conv_inplane: int = 64,
        deform_num_heads: int = 6,
        n_points: int = 4,
        deform_ratio: float = 1.0,
        init_values: float = 0.0,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        use_extra_extractor: bool = True,
        add_vit_feature: str | None = "last",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        with_checkpointing: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        for key in NOT_TAKEN:
            group, _, name = key.rpartition(".")
            if ((vit.get(group) or {}) if group else vit).get(name):
                raise ConfigError(f"ViTAdapter takes the tokens of vit as they are: leave vit.{key} out")
        kind = MODELS.get(vit["type"]) if isinstance(vit["type"], str) else vit["type"]
        if kind is not None and kind is not ViT:
            raise ConfigError(f"ViTAdapter's vit is a {kind.__name__}: it works with the blocks of a ViT")
        self.vit: ViT = MODELS.build(dict(vit, final_norm=None))
        self.out_indices = tuple(out_indices)
        if not self.out_indices or not set(self.out_indices) <= set(range(4)):
            raise ConfigError(f"ViTAdapter's out_indices are {self.out_indices}: choose from the maps 0 to 3")
        self.interaction_indexes = self._ranges(interaction_indexes)
        if add_vit_feature not in VIT_MAPS:
            close = suggest(str(add_vit_feature), [str(name) for name in VIT_MAPS])
            raise ConfigError(f"ViTAdapter's add_vit_feature is {add_vit_feature!r}{close}: 'last', 'each' or None")
        if add_vit_feature == "each" and len(self.interaction_indexes) != 4:
            raise ConfigError(
                f"ViTAdapter's add_vit_feature='each' gives four maps, but there are {len(self.interaction_indexes)} "
                "interactions: interaction_indexes of four, or add_vit_feature='last'"
            )
        self.add_vit_feature, self.with_checkpointing = add_vit_feature, with_checkpointing
        self.vit.with_checkpointing |= with_checkpointing
        dim, self.patch = self.vit.out_channels[0], self.vit.out_strides[0]
        self.out_channels = (dim,) * len(self.out_indices)
        self.out_strides = tuple(STRIDES[i] for i in self.out_indices)

        eps, rate = self.vit.blocks[0].norm1.eps, self.vit.blocks[-1].drop_path.rate
        attention = dict(num_heads=deform_num_heads, points=n_points, ratio=deform_ratio)
        hidden = int(dim * cffn_ratio) if with_cffn else 0
        self.level_embed = nn.Parameter(torch.zeros(3, dim))
        self.spm = SpatialPrior(conv_inplane, dim, finest=0 in self.out_indices)
        self.interactions = nn.ModuleList()
        for i in range(len(self.interaction_indexes)):
            last = i == len(self.interaction_indexes) - 1 and use_extra_extractor
            extractors = [Extractor(dim, eps, hidden, rate, **attention) for _ in range(3 if last else 1)]
            injector = Injector(dim, eps, init_values, **attention)
            self.interactions.append(Interaction(injector, extractors[0], extractors[1:]))
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2) if 0 in self.out_indices else None
        for i in self.out_indices:
            self.add_module(f"norm{i + 1}", BatchNorm(dim))
        self._draw()

    def _ranges(self, given: Sequence[Sequence[int]] | None) -> tuple[range, ...]:
        """The blocks of each interaction."""
        depth = self.vit.depth
        if given is None:
            if depth % 4:
                raise ConfigError(
                    f"ViTAdapter's vit has {depth} blocks, which are no multiple of 4: interaction_indexes"
                )
            given = [(first, first + depth // 4 - 1) for first in range(0, depth, depth // 4)]
        for pair in given:
            if not 0 <= pair[0] <= pair[-1] < depth:
                raise ConfigError(
                    f"ViTAdapter's interaction_indexes hold {tuple(pair)}: first and last of blocks 0 to {depth - 1}"
                )
        if not given:
            raise ConfigError("ViTAdapter's interaction_indexes are empty: it needs one interaction at least")
        return tuple(range(pair[0], pair[-1] + 1) for pair in given)

    def _draw(self) -> None:
        """Initial weights of all but the ViT."""
        for part in (self.spm, self.interactions):
            part.apply(init_transformer)
        for module in self.interactions.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()
        if self.up is not None:
            nn.init.normal_(self.up.weight, std=math.sqrt(2 / (4 * self.up.out_channels)))  # by fan-out: 2 * 2 taps
            nn.init.zeros_(self.up.bias)
        nn.init.normal_(self.level_embed)

    @property
    def num_layers(self) -> int:
        """How many blocks the ViT has."""
        return self.vit.num_layers

    def layer_of(self, name: str) -> int:
        """Of a parameter: the ViT's own layers, and num_layers + 1 all that is added to it."""
        return self.vit.layer_of(name.removeprefix("vit.")) if name.startswith("vit.") else self.num_layers + 1

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C, ceil(H / s), ceil(W / s)) for the stride s of each of out_indices."""
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % 32, 0, -height % 32))
        finest, coarser = self.spm(images)
        sizes = [tuple(image.shape[2:]) for image in coarser]
        # (B, S, C)
        maps = torch.cat([to_tokens(x) + level for x, level in zip(coarser, self.level_embed, strict=True)], 1)
        tokens, grid = self.vit.embed(images)
        maps, added = self.interact(tokens, maps, grid, sizes)
        parts = maps.split([rows * columns for rows, columns in sizes], 1)  # (B, h*w, C) at strides 8, 16 and 32
        images = [None, *(to_map(part, size) for part, size in zip(parts, sizes, strict=True))]
        if finest is not None:
            images[0] = self.up(images[1]) + finest  # stride 4 from stride 8
        outputs = []
        for i, stride in zip(self.out_indices, self.out_strides, strict=True):
            x = images[i]
            if added:
                # the ViT's map may reach further than the image's ceil(size / stride) locations
                x = x + self.at_stride(to_map(added[i], grid), stride)[:, :, : x.shape[2], : x.shape[3]]
            # cut to ceil(size / stride) of the image without its padding
            outputs.append(getattr(self, f"norm{i + 1}")(x[:, :, : -(-height // stride), : -(-width // stride)]))
        return tuple(outputs)

    def interact(
        self, tokens: Tensor, maps: Tensor, grid: tuple[int, int], sizes: Sizes
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The blocks and what happens between them.

        tokens: (B, P + N, C), the first block's; grid: (h, w) of the patches; maps: (B, S, C), of `sizes`. Returns the
        three maps in the end, and the patches (B, N, C) that are added to each of the four; () where nothing is.
        """
        prior = [SpatialShapes(size, stride) for size, stride in zip(sizes, STRIDES[1:], strict=True)]
        plain, first = [SpatialShapes(grid, self.patch)], self.vit.num_prefix
        on_maps, on_patches = (
            sampling_locations(plain, prior, maps.device),
            sampling_locations(prior, plain, maps.device),
        )
        rotation, after = self.vit.rotation(grid), []
        for blocks, layer in zip(self.interaction_indexes, self.interactions, strict=True):
            patches = self.run(layer.injector, tokens[:, first:], maps, on_maps)
            tokens = torch.cat((tokens[:, :first], patches), 1) if first else patches  # (B, P + N, C)
            for block in blocks:
                tokens = self.vit.step(block, tokens, grid, rotation)
            patches = tokens[:, first:]
            for extractor in (layer.extractor, *layer.extra_extractors):
                maps = self.run(extractor, maps, patches, on_patches, sizes)
            after.append(patches)
        return maps, {"last": after[-1:] * 4, "each": after, None: ()}[self.add_vit_feature]

    def run(self, part: nn.Module, *inputs) -> Tensor:
        """What a part gives, its activations kept or not."""
        if self.with_checkpointing and self.training:
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def at_stride(self, image: Tensor, stride: int) -> Tensor:
        """A map of the ViT's patches, at least as far as one of another stride reaches from the upper left corner."""
        if stride == self.patch:
            return image
        return F.interpolate(image, scale_factor=self.patch / stride, mode="bilinear", align_corners=False)
