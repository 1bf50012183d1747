"""Tensors of backbones alone: pyramids, plain ViTs, MViTv2, ViT-Adapter."""

import torch
from torch import Tensor, nn

from densevit.models.layers.pos_embed import sincos_table
from densevit.models.layers.tokens import to_map


def outputs_of(blocks: nn.ModuleList, run) -> tuple[list[Tensor], object]:
    """What each block gives while `run` runs, and what `run` returns."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: found.append(out)) for block in blocks]
    returned = run()
    for hook in hooks:
        hook.remove()
    return found, returned


def probe_pyramid(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """Maps and, as `stage1_tokens`, the tokens after a stage's last block, before any norm.

    Projects count differently: `stage_0`, `stage0`, `p0` the stages or the outputs from 0, `stage1` the stages from 1.
    """
    stages = range(model.num_stages)
    blocks = [
        model.layers[i].blocks[-1] if hasattr(model, "layers") else getattr(model, f"block{i + 1}")[-1] for i in stages
    ]
    tokens, maps = outputs_of(blocks, lambda: model(*inputs.values()))
    ends = {f"stage{i + 1}_tokens": x for i, x in enumerate(tokens)}
    if type(model).__name__ == "PVT":  # a class token attends in stage 4 of the classifier; a dense backbone has none
        ends.pop("stage4_tokens", None)
    readings = [ends | {f"stage{i + 1}": x for i, x in zip(model.out_indices, maps, strict=True)}]
    for numbers in (model.out_indices, range(len(maps))):
        named = zip(numbers, maps, strict=True)
        readings.append(ends | {f"{name}{i}": x for i, x in named for name in ("stage_", "stage", "p")})
    return readings


def probe_vit(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """Maps in their order (`out_0`, the class token beside it), tokens after a block as they are (`block0`,
    `x_prenorm`) and normed (`layer0` as a map, `cls0`, `latent`), tables of positions and rotary angles."""
    (image,) = inputs.values()
    after, maps = outputs_of(model.blocks, lambda: model(image))
    size = model.embed(image)[1]
    last, first = after[-1], model.num_prefix
    width = last.shape[2]
    probes = {f"out_{i}": x[:, :width] for i, x in enumerate(maps)}
    if model.append_cls_token:
        probes |= {f"out_{i}_cls": x[:, width:, 0, 0] for i, x in enumerate(maps)}
    probes |= {f"block{i}": x for i, x in enumerate(after)} | {"x_prenorm": last}
    if model.norm is not None:
        for i, x in enumerate(after):
            normed = torch.cat(((model.cls_norm or model.norm)(x[:, :first]), model.norm(x[:, first:])), 1)
            probes |= {f"layer{i}": to_map(normed[:, first:], size), f"cls{i}": normed[:, 0]}
        probes |= {"latent": normed, "cls": normed[:, 0], "dist": normed[:, 1]}
        if model.register_tokens is not None:
            registers = normed[:, first - model.register_tokens.shape[1] : first]
            probes |= {"x_norm_regtokens": registers, "x_storage_tokens": registers}
    if model.pos_embed is not None:
        probes["pos"] = model.position_table(size)
        rows = probes["pos"].new_zeros(1, model.table_rows, width)
        probes["sincos_pos_embed"] = torch.cat((rows, sincos_table(model.grid, width)), 1)
    else:
        angles = model.rope_embed.angles(size)
        probes |= {"rope_sin": angles.sin(), "rope_cos": angles.cos()}
    return [probes]


def probe_mvit(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """Tokens after a block (`block0`), the last ones normed (`norm`), and the maps (`scale2`)."""
    after, maps = outputs_of(model.blocks, lambda: model(*inputs.values()))
    probes = {f"block{i}": tokens for i, tokens in enumerate(after)}
    probes |= {f"scale{i + 2}": x for i, x in zip(model.out_indices, maps, strict=True)}
    if model.output_norm == "last":
        probes["norm"] = model.norm(after[-1])
    return [probes]


def probe_adapter(model: nn.Module, inputs: dict, *_) -> list[dict[str, Tensor]]:
    """The four maps, `c1` the finest."""
    return [{f"c{i + 1}": x for i, x in zip(model.out_indices, model(*inputs.values()), strict=True)}]
