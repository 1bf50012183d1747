"""Segmenter's mask transformer: its own repository and mmsegmentation."""

from typing import Any

from torch import Tensor

from densevit.converters.config_spec import NO_DROPOUT, Architecture, ConfigReader, UnsupportedModelError, same
from densevit.converters.key_mapping import rules
from densevit.converters.openmmlab import CLASSIFIER, GELU, LAYER_NORM, finish_classifier


def transposed(weight: Tensor) -> Tensor:
    """A linear layer's weight as the matrix that tokens are multiplied with, and back."""
    return weight.t()


def _finish(config: dict[str, Any], head: ConfigReader) -> None:
    finish_classifier(config, head)
    config.pop("dropout")  # of a classifying convolution, which it has not


HEAD = CLASSIFIER.but(
    type="SegmenterHead",
    keys={
        "num_layers": "num_layers", "num_heads": "num_heads", "embed_dims": "embed_dim", **same(mlp_ratio=4),
        "drop_path_rate": ("drop_path", 0.1), "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM),
    },
    fixed={"num_fcs": 2, "qkv_bias": True, **GELU, **NO_DROPOUT}, ignored="channels init_std", finish=_finish,
)  # fmt: skip
"""SegmenterMaskTransformerHead."""


def of_repository(decoder: ConfigReader, width: int, classes: int) -> dict[str, Any]:
    """The `decoder` of net_kwargs, on an encoder of `width` channels."""
    name = decoder.pop("name")
    if name == "linear":
        config = {"type": "FCNHead", "num_convs": 0, "dropout": 0.0}
    elif name == "mask_transformer":
        config = {"type": "SegmenterHead", "num_layers": decoder.pop("n_layers"), "num_heads": width // 64}
        config["drop_path"] = decoder.pop("drop_path_rate")
        decoder.ignore("dropout")  # of training alone
    else:
        raise UnsupportedModelError(
            f"{decoder.where}.name is {name!r}; densevit has 'linear' and 'mask_transformer' there."
        )
    decoder.require("n_cls", classes)
    decoder.finish()
    return {**config, "num_classes": classes}


SAME = "cls_emb decoder_norm. mask_norm."
BLOCK = (
    "ln1.->norm1. ln2.->norm2. attn.attn.out_proj.->attn.proj. ffn.layers.0.0.->mlp.fc1. ffn.layers.1.->mlp.fc2. "
    "attn.attn.in_proj_weight->attn.qkv.weight attn.attn.in_proj_bias->attn.qkv.bias"
)
"""A block in mmsegmentation, of the head as of its ViT."""
MMSEG = [
    *rules(BLOCK, "layers.{}.", "blocks.{}."), *rules(f"dec_proj.->proj_dec. {SAME}"),
    *rules("patch_proj.weight->proj_patch classes_proj.weight->proj_classes", change=(transposed, transposed)),
]  # fmt: skip
REPOSITORY = rules(f"proj_patch proj_classes blocks.{{}}. proj_dec. {SAME}")
ARCHITECTURES = (Architecture("SegmenterHead", {"segmenter": REPOSITORY, "mmseg": MMSEG}),)
