"""Segmenter's mask transformer: its own repository and mmsegmentation."""

from typing import Any

from torch import Tensor

from densevit.converters.architecture import Architecture
from densevit.converters.config_spec import ZERO, ConfigReader, UnsupportedModelError
from densevit.converters.key_mapping import KeyRule, renamed, same
from densevit.converters.openmmlab import CLASSIFIER, GELU, LAYER_NORM


def transposed(weight: Tensor) -> Tensor:
    """A linear layer's weight as the matrix that tokens are multiplied with, and back."""
    return weight.t()


BLOCK = {
    "ln1": "norm1", "ln2": "norm2", "attn.attn.out_proj": "attn.proj", "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
}  # fmt: skip


def _finish(config: dict[str, Any], head: ConfigReader) -> tuple[None, dict[str, Any]]:
    CLASSIFIER.finish(config, head)
    config.pop("dropout")  # of a classifying convolution, which it has not
    return None, config


HEAD = CLASSIFIER.but(
    type="SegmenterHead",
    keys={
        "num_layers": "num_layers", "num_heads": "num_heads", "embed_dims": "embed_dim", "mlp_ratio": ("mlp_ratio", 4),
        "drop_path_rate": ("drop_path", 0.1), "norm_cfg": ("norm_eps", {"type": "LN"}, LAYER_NORM),
    },
    fixed={"num_fcs": 2, "qkv_bias": True, **GELU, "drop_rate": ZERO, "attn_drop_rate": ZERO},
    ignored=("channels", "init_std"), finish=_finish,
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


ARCHITECTURE = Architecture(
    "SegmenterHead",
    keys={
        "segmenter": same(
            "cls_emb", "proj_patch", "proj_classes", "blocks.{}.*", "proj_dec.*", "decoder_norm.*", "mask_norm.*"
        ),
        "mmseg": [
            *(rule.within("layers.{}.", "blocks.{}.") for rule in renamed(**BLOCK)),
            *(KeyRule(f"layers.{{}}.attn.attn.in_proj_{k}", f"blocks.{{}}.attn.qkv.{k}") for k in ("weight", "bias")),
            *renamed(dec_proj="proj_dec"),
            KeyRule("patch_proj.weight", "proj_patch", transposed, transposed),
            KeyRule("classes_proj.weight", "proj_classes", transposed, transposed),
            *same("cls_emb", "decoder_norm.*", "mask_norm.*"),
        ],
    },
)
