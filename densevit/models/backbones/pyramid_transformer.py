"""What the pyramid transformers share: sizes looked up by name, and the walk through their stages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.errors import ConfigError, suggest
from densevit.models.layers.tokens import to_map


def look_up_arch(family: str, arch: str | Mapping, table: Mapping[str, Mapping]) -> dict[str, Any]:
    """The sizes of `arch`: a row of `table` by name, or a mapping with the same keys.

    Raises ConfigError for an unknown name, an unknown key or a missing one.
    """
    if isinstance(arch, str):
        if arch not in table:
            raise ConfigError(f"{family} has no arch {arch!r}{suggest(arch, table)}: choose from {', '.join(table)}")
        return dict(table[arch])
    keys = next(iter(table.values())).keys()
    for key in arch:
        if key not in keys:
            raise ConfigError(f"{family}'s arch has no key {key!r}{suggest(key, keys)}: it has {', '.join(keys)}")
    missing = [key for key in keys if key not in arch]
    if missing:
        raise ConfigError(f"{family}'s arch lacks {', '.join(missing)}: give all of {', '.join(keys)}")
    return dict(arch)


def checkpointed_stages(with_checkpointing: bool | Sequence[int], stages: int) -> tuple[int, ...]:
    """Numbers of the stages whose blocks are recomputed in the backward pass: all, none, or those given.

    Raises ConfigError for a stage that there is not.
    """
    if isinstance(with_checkpointing, bool):
        return tuple(range(stages)) if with_checkpointing else ()
    chosen = tuple(with_checkpointing)
    if not all(isinstance(i, int) and 0 <= i < stages for i in chosen):
        raise ConfigError(f"with_checkpointing is {chosen}: give True, False, or some of the stages 0 to {stages - 1}")
    return chosen


def init_transformer(module: nn.Module) -> None:
    """PVT's initial weights: linear layers normal (0.02) cut at two sigma, convolutions normal by fan-out."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class PyramidTransformer(BaseModule):
    """Stages of patch embedding and blocks, the first at stride 4, each at half the resolution of the one before.

    A family's constructor adds `patch_embed{i}` (called with the map, gives tokens and their grid), `block{i}` and,
    where the family has one, the norm `norm{i}` on a stage's last tokens; i counts from 1.
    """

    def __init__(self, embed_dims: Sequence[int], out_indices: Sequence[int], with_checkpointing, init_cfg):
        super().__init__(init_cfg)
        self.num_stages = len(embed_dims)
        self.out_indices = tuple(out_indices)
        if not self.out_indices or not all(0 <= i < self.num_stages for i in self.out_indices):
            raise ConfigError(f"out_indices {self.out_indices}: choose from the stages 0 to {self.num_stages - 1}")
        self.out_channels = tuple(embed_dims[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self.checkpointed = checkpointed_stages(with_checkpointing, self.num_stages)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each of out_indices."""
        features, x = [], images
        for i in range(1, self.num_stages + 1):
            tokens, size = getattr(self, f"patch_embed{i}")(x)
            tokens = self.add_position(i, tokens, size)
            for block in getattr(self, f"block{i}"):
                if i - 1 in self.checkpointed and self.training:
                    tokens = checkpoint(block, tokens, size, use_reentrant=False)
                else:
                    tokens = block(tokens, size)
            if hasattr(self, f"norm{i}"):
                tokens = getattr(self, f"norm{i}")(tokens)
            x = to_map(tokens, size)
            if i - 1 in self.out_indices:
                features.append(x)
        return tuple(features)

    @property
    def num_layers(self) -> int:
        """How many blocks all stages have."""
        return sum(self._depths)

    @property
    def _depths(self) -> list[int]:
        return [len(getattr(self, f"block{i}")) for i in range(1, self.num_stages + 1)]

    def layer_of(self, name: str) -> int:
        """Of a parameter: blocks count from 1 through all stages; what leads to a stage belongs to the block before it
        (0: to none), a stage's last norm to its last block."""
        first, *rest = name.split(".")
        kind, stage = first[:-1], int(first[-1])
        before = sum(self._depths[: stage - 1])
        if kind == "block":
            return before + int(rest[0]) + 1
        return before + self._depths[stage - 1] if kind == "norm" else before

    def add_position(self, i: int, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Stage i's tokens (B, h*w, C) with their locations; a family without position tables leaves them as they
        are."""
        return tokens
