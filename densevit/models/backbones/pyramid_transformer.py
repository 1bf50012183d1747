"""The base of the pyramid transformers: sizes by name, checks of stages, and the forward pass through the stages."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from densevit.errors import ConfigError, suggest
from densevit.models.layers.tokens import to_map
from densevit.models.protocols import Backbone


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


def chosen_stages(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """Numbers of the stages whose maps are returned. Raises ConfigError for none, or one that there is not."""
    chosen = tuple(out_indices)
    if not chosen or not all(0 <= i < stages for i in chosen):
        raise ConfigError(f"out_indices {chosen}: choose from the stages 0 to {stages - 1}")
    return chosen


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


class PyramidTransformer(BaseModule, Backbone):
    """Stages of patch embedding and blocks, the first at stride 4, each at half the resolution of the one before.

    A family's constructor adds `patch_embed{i}` (called with the map, gives tokens and their grid), `block{i}` and,
    where the family has one, the norm `norm{i}` on a stage's last tokens; i counts from 1.
    """

    def __init__(self, embed_dims: Sequence[int], out_indices: Sequence[int], with_checkpointing, init_cfg):
        super().__init__(init_cfg)
        self.num_stages = len(embed_dims)
        self.out_indices = chosen_stages(out_indices, self.num_stages)
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
            x = to_map(tokens, size)  # (B, C_i, h, w), what the next stage's patches are cut from
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
