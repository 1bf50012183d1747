"""Segmenter's heads: names and configurations of its own repository and of mmsegmentation."""

from typing import Any

from torch import Tensor

from densevit.checkpoints.mmseg_terms import classifier, layer_norm_eps
from densevit.checkpoints.pvt import to_convolution, to_linear
from densevit.checkpoints.rules import Rule
from densevit.checkpoints.settings import NotBuilt, Settings


def transposed(weight: Tensor) -> Tensor:
    """A linear layer's weight as the matrix that tokens are multiplied with, and back."""
    return weight.t()


BLOCK = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn.attn.out_proj": "attn.proj",
    "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
}
MASK = {
    "rstrudel": [
        *(Rule(name, name) for name in ("cls_emb", "proj_patch", "proj_classes")),
        *(Rule(f"{name}.*", f"{name}.*") for name in ("blocks.{}", "proj_dec", "decoder_norm", "mask_norm")),
    ],
    "mmseg": [
        *(Rule(f"layers.{{}}.{theirs}.*", f"blocks.{{}}.{ours}.*") for theirs, ours in BLOCK.items()),
        *(Rule(f"layers.{{}}.attn.attn.in_proj_{kind}", f"blocks.{{}}.attn.qkv.{kind}") for kind in ("weight", "bias")),
        Rule("dec_proj.*", "proj_dec.*"),
        Rule("cls_emb", "cls_emb"),
        Rule("patch_proj.weight", "proj_patch", transposed, transposed),
        Rule("classes_proj.weight", "proj_classes", transposed, transposed),
        *(Rule(f"{name}.*", f"{name}.*") for name in ("decoder_norm", "mask_norm")),
    ],
}
LINEAR = [Rule("head.weight", "classify.weight", to_convolution, to_linear), Rule("head.bias", "classify.bias")]
"""The repository's linear decoder, our FCNHead without convolutions."""


def from_mmseg(head: Settings) -> tuple[None, dict[str, Any]]:
    """SegmenterMaskTransformerHead."""
    head.expect("num_fcs", 2)
    head.expect("qkv_bias", True)
    head.expect("act_cfg", {"type": "GELU"})
    for key in ("drop_rate", "attn_drop_rate"):
        head.expect(key, 0.0, [0])
    head.ignore("channels", "init_std")
    config = {
        "type": "SegmenterHead",
        "num_layers": head.take("num_layers"),
        "num_heads": head.take("num_heads"),
        "embed_dim": head.take("embed_dims"),
        "mlp_ratio": head.take("mlp_ratio", 4),
        "drop_path": head.take("drop_path_rate", 0.1),
        "norm_eps": layer_norm_eps(head, "norm_cfg", {"type": "LN"}),
        **classifier(head),
    }
    config.pop("dropout")  # of a classifying convolution, which it has not
    return None, config


def from_rstrudel(decoder: Settings, width: int, classes: int) -> dict[str, Any]:
    """The `decoder` of net_kwargs, on an encoder of `width` channels."""
    name = decoder.take("name")
    if name == "linear":
        config = {"type": "FCNHead", "num_convs": 0, "dropout": 0.0}
    elif name == "mask_transformer":
        config = {
            "type": "SegmenterHead",
            "num_layers": decoder.take("n_layers"),
            "num_heads": width // 64,
            "drop_path": decoder.take("drop_path_rate"),
        }
        decoder.ignore("dropout")  # of training alone
    else:
        raise NotBuilt(f"{decoder.where}.name is {name!r}; densevit has 'linear' and 'mask_transformer' there.")
    decoder.expect("n_cls", classes)
    decoder.done()
    return {**config, "num_classes": classes}
