"""Vision Transformer (arXiv 2010.11929): one resolution all the way through, with the parts that its successors added.

Parameter names are those of the official PyTorch releases (DeiT, MAE, DINOv2), less the classifier.

Shape letters: B batch, C channels, H, W input size, h, w size of the maps, P tokens before the patches.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densevit.archs import VIT as ARCHS
from densevit.archs import VIT_PRESETS as PRESETS
from densevit.errors import ConfigError, merge_options, suggest
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
TOKENS = dict(cls=True, dist=False, registers=0, append_cls=False, cls_norm=False)
POS_EMBED = dict(
    kind="learned", prefix_rows=None, mode="bicubic", antialias=False, offset=0.0, keep_if_same_length=False,
    base=100.0, coords="separate", steps=None,
)  # fmt: skip
REL_POS = dict(kind=None, img_size=None)
WINDOWS = dict(size=0, blocks=(), padding="tokens", conv_blocks=())
BLOCK = dict(
    norm_eps=1e-6, qkv_bias=True, key_bias=True, proj_bias=True, mlp_bias=True, mlp="gelu", sub_ln=(), layer_scale=None
)
CHOICES = {
    "final_norm": ("last", "all", None),
    "pos_embed.kind": ("learned", "sincos", "rotary", "learned+rotary", None),
    "pos_embed.mode": ("bicubic", "bilinear"),
    "pos_embed.coords": COORDS,
    "rel_pos.kind": (None, "bias", "decomposed"),
    "windows.padding": ("tokens", "keys"),
    "block.mlp": tuple(MLPS),
}


@MODELS.register_module()
class ViT(BaseModule, Backbone):
    """ViT tiny to giant: maps of chosen blocks, all of one size.

    The defaults are DeiT's and MAE's; the options in groups are for successors and weights of other projects.

    Args:
        arch: a row of ARCHS (a size), a row of PRESETS (a size with options: 'dinov2_small', 'dinov3_base',
            'vitdet_large', ...), or a dict of a size's keys. What is given beside it comes before a preset's options.
        patch_size: side of a patch in pixels, the stride of the maps; None: 16.
        patch_bias: whether the patches' projection has a bias.
        img_size: side (or height and width) in pixels of the images that the position embedding is made for; None: 224.
        out_indices: blocks (from 0) whose maps are returned; None: the last.
        drop_path_rate: stochastic depth of the last block; the blocks before have less.
        final_norm: 'last': the norm after the last block, for its map alone; 'all': the same norm on every map; None.
        tokens: what differs from TOKENS. Before the patches stand a class token (cls), a distillation token (dist:
            DeiT) and so many register tokens (registers: DINOv2). append_cls: each map has the class token's channels
            after its own, at every place. cls_norm: the class token's own final norm (DINOv3); it is trained where the
            token is appended.
        pos_embed: what differs from POS_EMBED. kind: 'learned'; 'sincos', learned from MAE's sines and cosines on;
            'rotary' (DINOv3); 'learned+rotary', both (EVA-02); None. prefix_rows: how many of the tokens before the
            patches have rows in the table; None: class and distillation. mode, antialias, offset, keep_if_same_length:
            how the table is resized for maps of another size, see TableResizing. base, coords, steps: see
            RotaryPositions; steps are EVA-02's.
        rel_pos: what differs from REL_POS. kind: what each block learns of relative positions: 'bias', one for each
            pair of distances (BEiT), or 'decomposed', terms of the query for rows and for columns (ViTDet). img_size:
            side in pixels of the images that the 'decomposed' tables of blocks without windows are made for; None:
            img_size.
        windows: what differs from WINDOWS (ViTDet, arXiv 2203.16527). blocks: those (from 0) that attend within
            windows; they have no tokens but the patches. size: side of a window in tokens, one for all of them or one
            for each. padding: what completes the last windows: 'tokens' of zeros, or 'keys' and values of zeros
            (ViT-Adapter). conv_blocks: those that end with a residual branch of convolutions.
        block: what differs from BLOCK. norm_eps: of all norms. qkv_bias, proj_bias, mlp_bias: whether the projections
            have a bias. key_bias: whether the key's part of qkv_bias takes part. mlp: 'gelu' or 'swiglu'; its hidden
            width is round(embed_dim * mlp_ratio). sub_ln: which branches have a norm before their last projection
            (EVA-02): 'attn', 'mlp' with mlp='swiglu'. layer_scale: where the factors of the branches' channels start.
        with_checkpointing: recompute each block in the backward pass instead of keeping its activations.

    Raises ConfigError for an option that does not exist or does not go with another.
    """

    def __init__(
        self,
        arch: str | Mapping = "base",
        patch_size: int | None = None,
        patch_bias: bool = True,
        img_size: int | Sequence[int] | None = None,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        final_norm: str | None = "last",
        tokens: Mapping | None = None,
        pos_embed: Mapping | None = None,
        rel_pos: Mapping | None = None,
        windows: Mapping | None = None,
        block: Mapping | None = None,
        with_checkpointing: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        preset = look_up_arch("ViT", arch, ARCHS | PRESETS)
        dim, self.depth, heads, mlp_ratio = (preset.pop(key) for key in ARCHS["base"])
        patch_size = patch_size or preset.pop("patch_size", 16)
        img_size = img_size or preset.pop("img_size", 224)

        def options(name: str, given: Mapping | None, defaults: Mapping) -> dict[str, Any]:
            return merge_options(f"ViT's {name}", given, {**defaults, **preset.get(name, {})})

        tokens, pos_embed = options("tokens", tokens, TOKENS), options("pos_embed", pos_embed, POS_EMBED)
        rel_pos, windows = options("rel_pos", rel_pos, REL_POS), options("windows", windows, WINDOWS)
        block = options("block", block, BLOCK)
        groups = dict(pos_embed=pos_embed, rel_pos=rel_pos, windows=windows, block=block)
        for name, allowed in CHOICES.items():
            group, _, key = name.rpartition(".")
            given = groups[group][key] if group else final_norm
            if given not in allowed:
                close = suggest(str(given), [str(a) for a in allowed])
                raise ConfigError(f"ViT's {name} is {given!r}{close}: choose from {', '.join(map(repr, allowed))}")
        rotary = pos_embed["kind"] in ("rotary", "learned+rotary")
        if dim % heads or (rotary and dim // heads % 4) or (pos_embed["kind"] == "sincos" and dim % 4):
            raise ConfigError(
                f"ViT's {dim} channels do not divide among {heads} heads, by 4 for pos_embed.kind={pos_embed['kind']!r}"
            )
        self.out_indices = (self.depth - 1,) if out_indices is None else tuple(out_indices)
        size, blocks = windows["size"], windows["blocks"]
        sides = [size] * len(blocks) if isinstance(size, Integral) else list(size)
        if len(sides) != len(blocks):
            raise ConfigError(f"ViT's windows have {len(blocks)} blocks, but size gives {len(sides)} sides")
        self.windows = dict(zip(blocks, sides, strict=True))
        chosen = {
            "out_indices": self.out_indices, "windows.blocks": blocks, "windows.conv_blocks": windows["conv_blocks"]
        }  # fmt: skip
        for name, numbers in chosen.items():
            if not all(0 <= i < self.depth for i in numbers) or (name == "out_indices" and not numbers):
                raise ConfigError(f"ViT's {name} are {tuple(numbers)}: choose from the blocks 0 to {self.depth - 1}")
        counts = {
            "cls_token": int(tokens["cls"]), "dist_token": int(tokens["dist"]), "register_tokens": tokens["registers"]
        }  # fmt: skip
        self.num_prefix = sum(counts.values())
        bare = not self.num_prefix and not rotary
        if sides and (min(sides) < 1 or not bare):
            raise ConfigError(
                "ViT's windows.blocks need a windows.size, a learned position embedding and no tokens but the patches: "
                "tokens=dict(cls=False)"
            )
        if (windows["conv_blocks"] or rel_pos["kind"] == "decomposed") and not bare:
            raise ConfigError(
                "ViT's windows.conv_blocks and rel_pos.kind='decomposed' have no place for tokens but the patches or "
                "for rotary positions: tokens=dict(cls=False)"
            )
        if (tokens["append_cls"] or tokens["cls_norm"] or rel_pos["kind"] == "bias") and not tokens["cls"]:
            raise ConfigError("ViT's tokens.append_cls, tokens.cls_norm and rel_pos.kind='bias' need tokens.cls=True")
        if rel_pos["kind"] == "bias" and self.num_prefix != 1:
            raise ConfigError("ViT's rel_pos.kind='bias' has no place for distillation or register tokens")

        self.append_cls_token, self.final_norm = tokens["append_cls"], final_norm
        self.with_checkpointing = with_checkpointing
        self.out_channels = (dim * (2 if self.append_cls_token else 1),) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices)
        sides = (img_size, img_size) if isinstance(img_size, Integral) else tuple(img_size)
        self.grid = (sides[0] // patch_size, sides[1] // patch_size)
        for name, count in counts.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, count, dim)) if count else None)
        self.table_rows = pos_embed["prefix_rows"]
        if self.table_rows is None:
            self.table_rows = counts["cls_token"] + counts["dist_token"]
        if not 0 <= self.table_rows <= self.num_prefix:
            raise ConfigError(
                f"ViT's pos_embed.prefix_rows is {self.table_rows}, but {self.num_prefix} tokens stand before the "
                "patches"
            )
        self.resizing = TableResizing(
            *(pos_embed[key] for key in ("mode", "antialias", "offset", "keep_if_same_length"))
        )
        self.pos_embed, self.rope_embed = None, None
        if rotary:
            self.rope_embed = RotaryPositions(dim // heads, *(pos_embed[key] for key in ("base", "coords", "steps")))
        if pos_embed["kind"] not in ("rotary", None):
            self.pos_embed = nn.Parameter(torch.zeros(1, self.table_rows + self.grid[0] * self.grid[1], dim))
        self.patch_embed = PatchEmbed(3, dim, patch_size, bias=patch_bias)
        resize_on_load(self.patch_embed.proj, "weight", partial(fit_kernel, size=patch_size))
        resize_on_load(self, "pos_embed", self.fit_pos_embed)
        hidden = round(dim * mlp_ratio)
        rates = drop_path_rates(drop_path_rate, self.depth)
        self.blocks = nn.ModuleList(
            self._block(i, dim, heads, hidden, rates[i], patch_size, rel_pos, windows, block) for i in range(self.depth)
        )
        norm_eps = block["norm_eps"]
        normed = final_norm == "all" or (final_norm == "last" and self.depth - 1 in self.out_indices)
        self.norm = nn.LayerNorm(dim, eps=norm_eps) if normed else None
        self.cls_norm = nn.LayerNorm(dim, eps=norm_eps) if normed and tokens["cls_norm"] else None
        if self.cls_norm is not None:
            self.cls_norm.requires_grad_(self.append_cls_token)
        self._init_weights(pos_embed["kind"] == "sincos")

    def _block(
        self,
        i: int,
        dim: int,
        heads: int,
        hidden: int,
        drop_path: float,
        patch_size: int,
        rel_pos: Mapping,
        windows: Mapping,
        options: Mapping,
    ) -> Block:
        """Block i, from the options of the constructor."""
        sub_ln, norm_eps = options["sub_ln"], options["norm_eps"]
        if not set(sub_ln) <= {"attn", "mlp"} or ("mlp" in sub_ln and options["mlp"] != "swiglu"):
            raise ConfigError(
                f"ViT's block.sub_ln is {sub_ln!r}: 'attn', and with block.mlp='swiglu' 'mlp', may have one"
            )
        biases = {key: options[key] for key in ("qkv_bias", "key_bias", "proj_bias")}
        biases |= dict(inner_eps=norm_eps) if "attn" in sub_ln else {}
        cut = dict(window=self.windows.get(i, 0), window_padding=windows["padding"])
        if rel_pos["kind"] == "bias":
            attn = RelativeSelfAttention(dim, heads, self.grid, **biases)
        elif rel_pos["kind"] == "decomposed":
            whole = (rel_pos["img_size"] // patch_size,) * 2 if rel_pos["img_size"] else self.grid
            attn = DecomposedSelfAttention(
                dim, heads, (cut["window"],) * 2 if cut["window"] else whole, **biases, **cut
            )
        else:
            attn = SelfAttention(dim, heads, **biases, **cut)
        inner_eps = dict(inner_eps=norm_eps) if "mlp" in sub_ln else {}
        mlp = MLPS[options["mlp"]](dim, hidden, options["mlp_bias"], **inner_eps)
        residual = ConvBottleneck(dim) if i in windows["conv_blocks"] else None
        return Block(dim, attn, mlp, drop_path, norm_eps, options["layer_scale"], residual)

    def _init_weights(self, sincos: bool) -> None:
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
