"""Vision Transformer (arXiv 2010.11929): one resolution all the way through, with the parts that its successors added.

Parameter names are those of the official PyTorch releases (DeiT, MAE, DINOv2), less the classifier.

Shape letters: B batch, C channels, H, W input size, h, w size of the maps, P tokens before the patches.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.archs import VIT as ARCHS
from densevit.errors import ConfigError, suggest
from densevit.models.backbones.pyramid_transformer import look_up_arch
from densevit.models.layers.block import Block, Mlp, SwiGLU
from densevit.models.layers.drop_path import drop_path_rates
from densevit.models.layers.init import init_linear
from densevit.models.layers.patch_embed import PatchEmbed
from densevit.models.layers.pos_embed import TableResizing, fit_table, sincos_table, table_for
from densevit.models.layers.residual_conv import ConvBottleneck
from densevit.models.layers.resize_on_load import resize_on_load
from densevit.models.layers.rotary import COORDS, RotaryPositions, Rotation
from densevit.models.layers.self_attention import DecomposedSelfAttention, RelativeSelfAttention, SelfAttention
from densevit.models.layers.tokens import to_map
from densevit.models.protocols import Backbone
from densevit.ops.resize import resize_kernel
from densevit.registry import MODELS

MLPS = {"gelu": Mlp, "swiglu": SwiGLU}
CHOICES = {
    "final_norm": ("last", "all", None),
    "positions": ("table", "sincos", "rotary", "table+rotary", None),
    "relative_positions": (None, "bias", "decomposed"),
    "mlp": tuple(MLPS),
    "table_mode": ("bicubic", "bilinear"),
    "rotary_coords": COORDS,
    "window_padding": ("tokens", "keys"),
}


@MODELS.register_module()
class ViT(BaseModule, Backbone):
    """ViT tiny to giant: maps of chosen blocks, all of one size.

    The defaults are DeiT's and MAE's; the options after `norm_eps` are for successors and weights of other projects.

    Args:
        arch: a row of ARCHS, or a dict of its keys.
        patch_size: side of a patch in pixels, the stride of the maps.
        img_size: side (or height and width) in pixels of the images that the table of positions is made for.
        out_indices: blocks (from 0) whose maps are returned; None: the last.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        final_norm: 'last': the norm after the last block, for its map alone; 'all': the same norm on every map; None.
        norm_eps: eps of all norms.
        class_token, distillation_token, register_tokens: which tokens stand before the patches (DeiT; DINOv2), the
            registers by their number.
        append_cls_token: each map has the class token's channels after its own, at every location.
        class_norm: the class token's own final norm (DINOv3); it is trained where the token is appended.
        positions: 'table', learned; 'sincos', a table that starts as MAE's sines and cosines; 'rotary' (DINOv3);
            'table+rotary', both (EVA-02); None.
        table_rows: how many of the tokens before the patches have rows in the table; None: class and distillation.
        table_mode, table_antialias, table_offset, keep_pos_embed_if_same_length: how the table is resized for maps of
            another size, see TableResizing: 'bicubic' to the map's size where nothing is said.
        rotary_base, rotary_coords, rotary_steps: see RotaryPositions; rotary_steps: EVA-02's.
        relative_positions: what each block learns of them: 'bias', one for each pair of distances (BEiT), or
            'decomposed', terms of the query for rows and for columns (ViTDet); None: nothing.
        relative_img_size: side in pixels of the images that the 'decomposed' tables of blocks without windows are made
            for; None: img_size.
        qkv_bias, proj_bias, mlp_bias, patch_bias: whether the projections have a bias.
        key_bias: whether the key's part of `qkv_bias` takes part.
        mlp: 'gelu' or 'swiglu'; its hidden width is round(embed_dim * mlp_ratio).
        sub_ln: which branches have a norm before their last projection (EVA-02): 'attn', 'mlp' with mlp='swiglu'.
        layer_scale: where the factors of the branches' channels start; None: no such factors.
        window_size: side in tokens of the windows that `window_blocks` attend within (ViTDet, arXiv 2203.16527), one
            for all of them or one for each.
        window_blocks: blocks (from 0) with windows; they have no tokens but the patches.
        conv_blocks: blocks (from 0) that end with a residual branch of convolutions (ViTDet's convolution propagation).
        window_padding: what completes the last windows: 'tokens' of zeros, or 'keys' and values of zeros (ViT-Adapter).
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations.

    Raises ConfigError for an option that does not exist or does not go with another.
    """

    def __init__(
        self,
        arch: str | Mapping = "base",
        patch_size: int = 16,
        img_size: int | Sequence[int] = 224,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        final_norm: str | None = "last",
        norm_eps: float = 1e-6,
        class_token: bool = True,
        distillation_token: bool = False,
        register_tokens: int = 0,
        append_cls_token: bool = False,
        class_norm: bool = False,
        positions: str = "table",
        table_rows: int | None = None,
        table_mode: str = "bicubic",
        table_antialias: bool = False,
        table_offset: float = 0.0,
        keep_pos_embed_if_same_length: bool = False,
        rotary_base: float | Sequence[float] = 100.0,
        rotary_coords: str = "separate",
        rotary_steps: int | None = None,
        relative_positions: str | None = None,
        relative_img_size: int | None = None,
        qkv_bias: bool = True,
        key_bias: bool = True,
        proj_bias: bool = True,
        mlp_bias: bool = True,
        patch_bias: bool = True,
        mlp: str = "gelu",
        sub_ln: Sequence[str] = (),
        layer_scale: float | None = None,
        window_size: int | Sequence[int] = 0,
        window_blocks: Sequence[int] = (),
        window_padding: str = "tokens",
        conv_blocks: Sequence[int] = (),
        with_checkpointing: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        given = locals()
        for name, allowed in CHOICES.items():
            if given[name] not in allowed:
                close = suggest(str(given[name]), [str(a) for a in allowed])
                raise ConfigError(
                    f"ViT's {name} is {given[name]!r}{close}: choose from {', '.join(map(repr, allowed))}"
                )
        size = look_up_arch("ViT", arch, ARCHS)
        dim, self.depth, heads = size["embed_dim"], size["depth"], size["num_heads"]
        turned = positions in ("rotary", "table+rotary")
        if dim % heads or (turned and dim // heads % 4) or (positions == "sincos" and dim % 4):
            raise ConfigError(
                f"ViT's {dim} channels do not divide among {heads} heads, by 4 for positions={positions!r}"
            )
        self.out_indices = (self.depth - 1,) if out_indices is None else tuple(out_indices)
        windows = [window_size] * len(window_blocks) if isinstance(window_size, Integral) else list(window_size)
        if len(windows) != len(window_blocks):
            raise ConfigError(f"ViT has {len(window_blocks)} window_blocks, but window_size gives {len(windows)} sides")
        self.windows = dict(zip(window_blocks, windows, strict=True))
        chosen = {"out_indices": self.out_indices, "window_blocks": self.windows, "conv_blocks": conv_blocks}
        for name, blocks in chosen.items():
            if not all(0 <= i < self.depth for i in blocks) or (name == "out_indices" and not blocks):
                raise ConfigError(f"ViT's {name} are {tuple(blocks)}: choose from the blocks 0 to {self.depth - 1}")
        tokens = {
            "cls_token": int(class_token),
            "dist_token": int(distillation_token),
            "register_tokens": register_tokens,
        }
        self.num_prefix = sum(tokens.values())
        bare = not self.num_prefix and not turned
        if windows and (min(windows) < 1 or not bare):
            raise ConfigError(
                "ViT's window_blocks need a window_size, a table of positions and no tokens but the patches: "
                "class_token=False, register_tokens=0"
            )
        if (conv_blocks or relative_positions == "decomposed") and not bare:
            raise ConfigError(
                "ViT's conv_blocks and relative_positions='decomposed' have no place for tokens but the patches or for "
                "rotary positions: class_token=False, register_tokens=0"
            )
        if (append_cls_token or class_norm or relative_positions == "bias") and not class_token:
            raise ConfigError("ViT's append_cls_token, class_norm and relative_positions='bias' need class_token=True")
        if relative_positions == "bias" and self.num_prefix != 1:
            raise ConfigError("ViT's relative_positions='bias' have no place for distillation or register tokens")

        self.append_cls_token, self.final_norm = append_cls_token, final_norm
        self.with_checkpointing = with_checkpointing
        self.out_channels = (dim * (2 if append_cls_token else 1),) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices)
        sides = (img_size, img_size) if isinstance(img_size, Integral) else tuple(img_size)
        self.grid = (sides[0] // patch_size, sides[1] // patch_size)
        for name, count in tokens.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, count, dim)) if count else None)
        self.table_rows = tokens["cls_token"] + tokens["dist_token"] if table_rows is None else table_rows
        if not 0 <= self.table_rows <= self.num_prefix:
            raise ConfigError(
                f"ViT's table_rows is {table_rows}, but {self.num_prefix} tokens stand before the patches"
            )
        self.resizing = TableResizing(table_mode, table_antialias, table_offset, keep_pos_embed_if_same_length)
        self.pos_embed, self.rope_embed = None, None
        if turned:
            self.rope_embed = RotaryPositions(dim // heads, rotary_base, rotary_coords, rotary_steps)
        if positions not in ("rotary", None):
            self.pos_embed = nn.Parameter(torch.zeros(1, self.table_rows + self.grid[0] * self.grid[1], dim))
        self.patch_embed = PatchEmbed(3, dim, patch_size, bias=patch_bias)
        resize_on_load(self.patch_embed.proj, "weight", partial(fit_kernel, size=patch_size))
        resize_on_load(self, "pos_embed", self.fit_pos_embed)
        if not set(sub_ln) <= {"attn", "mlp"} or ("mlp" in sub_ln and mlp != "swiglu"):
            raise ConfigError(f"ViT's sub_ln are {sub_ln!r}: 'attn', and with mlp='swiglu' 'mlp', may have one")
        biases = dict(qkv_bias=qkv_bias, key_bias=key_bias, proj_bias=proj_bias)
        biases |= dict(inner_eps=norm_eps) if "attn" in sub_ln else {}
        inner_eps = dict(inner_eps=norm_eps) if "mlp" in sub_ln else {}
        relative_grid = (relative_img_size // patch_size,) * 2 if relative_img_size else self.grid
        self.blocks = nn.ModuleList()
        for i, rate in enumerate(drop_path_rates(drop_path_rate, self.depth)):
            cut = dict(window=self.windows.get(i, 0), window_padding=window_padding)
            if relative_positions == "bias":
                attn = RelativeSelfAttention(dim, heads, self.grid, **biases)
            elif relative_positions == "decomposed":
                grid = (cut["window"],) * 2 if cut["window"] else relative_grid
                attn = DecomposedSelfAttention(dim, heads, grid, **biases, **cut)
            else:
                attn = SelfAttention(dim, heads, **biases, **cut)
            inner = MLPS[mlp](dim, round(dim * size["mlp_ratio"]), mlp_bias, **inner_eps)
            after = ConvBottleneck(dim) if i in conv_blocks else None
            self.blocks.append(Block(dim, attn, inner, rate, norm_eps, layer_scale, after))
        normed = final_norm == "all" or (final_norm == "last" and self.depth - 1 in self.out_indices)
        self.norm = nn.LayerNorm(dim, eps=norm_eps) if normed else None
        self.cls_norm = nn.LayerNorm(dim, eps=norm_eps) if normed and class_norm else None
        if self.cls_norm is not None:
            self.cls_norm.requires_grad_(append_cls_token)
        self._draw(positions == "sincos")

    def _draw(self, sincos: bool) -> None:
        """Initial weights: linear layers and tables normal (0.02) cut at two sigma, tokens nearly zero (timm)."""
        self.apply(init_linear)
        for token in (self.cls_token, self.dist_token, self.register_tokens):
            if token is not None:
                nn.init.normal_(token, std=1e-6)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if sincos:
            with torch.no_grad():
                self.pos_embed.zero_()
                self.pos_embed[:, self.table_rows :] = sincos_table(self.grid, self.pos_embed.shape[2])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W). Returns (B, C, ceil(H / patch), ceil(W / patch)) for each of out_indices."""
        maps = []
        tokens, size = self.embed(images)
        rotation = self.rotation(size)
        for i in range(max(self.out_indices) + 1):
            tokens = self.step(i, tokens, size, rotation)
            if i in self.out_indices:
                maps.append(to_map(self.readout(tokens, i), size))  # (B, C or 2 C, h, w)
        return tuple(maps)

    def rotation(self, size: tuple[int, int]) -> Rotation | None:
        """What turns queries and keys of a map of `size`, where positions are rotary; see `rotate`."""
        return None if self.rope_embed is None else self.rope_embed(size, self.num_prefix)

    def step(self, block: int, tokens: Tensor, size: tuple[int, int], rotation: Rotation | None) -> Tensor:
        """What a block makes of the tokens (B, P + h*w, C)."""
        if self.with_checkpointing and self.training:
            return checkpoint(self.blocks[block], tokens, size, rotation, use_reentrant=False)
        return self.blocks[block](tokens, size, rotation)

    def layer_of(self, name: str) -> int:
        """Of a parameter: 0 what makes the tokens, i + 1 block i, num_layers + 1 norms and what is added to blocks."""
        first, *rest = name.split(".")
        if first == "blocks":
            return self.num_layers + 1 if rest[1] == "residual" else int(rest[0]) + 1
        return self.num_layers + 1 if first in ("norm", "cls_norm") else 0

    @property
    def num_layers(self) -> int:
        """How many blocks there are."""
        return self.depth

    def position_table(self, size: tuple[int, int]) -> Tensor:
        """(1, rows + h*w, C): the table for maps of `size`."""
        return table_for(self.pos_embed, self.table_rows, self.grid, size, self.resizing)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The first block's tokens (B, P + h*w, C): class, distillation, registers, patches; and (h, w)."""
        x, size = self.patch_embed(images)
        prefix = [t for t in (self.cls_token, self.dist_token, self.register_tokens) if t is not None]
        if self.pos_embed is not None:
            table, rows = self.position_table(size), self.table_rows
            x = x + table[:, rows:]  # (B, h*w, C)
            if rows:
                first = torch.cat(prefix, 1)  # (1, P, C); those with rows in the table stand first
                prefix = [first[:, :rows] + table[:, :rows], first[:, rows:]]
        if prefix:
            x = torch.cat([*(token.expand(len(x), -1, -1) for token in prefix), x], 1)  # (B, P + h*w, C)
        return x, size

    def readout(self, tokens: Tensor, block: int) -> Tensor:
        """Tokens after `block` (B, P + h*w, C) as the map's channels (B, h*w, C or 2 C)."""
        patches, first = tokens[:, self.num_prefix :], tokens[:, :1]  # (B, h*w, C), (B, 1, C)
        if self.norm is not None and (self.final_norm == "all" or block == self.depth - 1):
            patches = self.norm(patches)
            if self.append_cls_token:
                first = (self.cls_norm or self.norm)(first)
        # the class token's channels beside every patch's: (B, h*w, 2 C)
        return torch.cat((patches, first.expand_as(patches)), -1) if self.append_cls_token else patches

    def fit_pos_embed(self, table: Tensor) -> Tensor | None:
        """A file's table of another (square) grid resized to ours; rows of tokens that we do not have are left out."""
        spare = self.table_rows == self.num_prefix
        return fit_table(table, self.table_rows, self.grid, self.resizing, spare)


def fit_kernel(kernel: Tensor, size: int) -> Tensor | None:
    """A kernel (C, 3, k, k) of patches of another size resized to ours."""
    return resize_kernel(kernel, (size, size)) if kernel.ndim == 4 else None
