"""DPT and Depth-Anything: the configurations of mmsegmentation, of both repositories and of transformers."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints.mmseg_terms import batch_norm, classifier, plain_relu
from densevit.checkpoints.settings import NotBuilt, Settings
from densevit.checkpoints.swin_configs import side_pair
from densevit.checkpoints.vit_configs import arch_of, from_dinov2
from densevit.errors import ConfigError

HALF = (127.5, 127.5, 127.5)
"""Mean and deviation of isl-org's images."""


def whole_model(backbone: dict, neck: list[dict], head: dict, **preprocessor: Any) -> dict[str, Any]:
    """A whole model."""
    prepared = {"type": "Preprocessor", **preprocessor}
    return {"type": "DensePredictor", "data_preprocessor": prepared, "backbone": backbone, "neck": neck, "head": head}


def necks_of(widths: Any, readout: str, channels: int, **fusion: Any) -> list[dict[str, Any]]:
    """Both necks. fusion: what is not DPTFusion's default."""
    return [
        {"type": "DPTReassemble", "channels": tuple(widths), "readout": readout},
        {"type": "DPTFusion", "channels": channels, **fusion},
    ]


def test_resize(side: int, divisor: int, fit: str = "cover") -> dict[str, Any]:
    """Arguments of the transform `Resize` that prepares a test image as the projects do: cv2's bicubic sampling."""
    return {"scale": (side, side), "fit": fit, "divisor": divisor, "cubic": True}


# ---- mmsegmentation ----------------------------------------------------------------------------------


def needs_token(head: Mapping[str, Any]) -> bool:
    """Whether a head of mmsegmentation looks at the class token."""
    return str(head.get("type")).endswith("DPTHead") and head.get("readout_type", "ignore") != "ignore"


def from_mmseg(head: Settings) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """DPTHead: both necks, and the head that classifies what comes out."""
    head.expect("expand_channels", False)
    head.ignore("embed_dims", "patch_size")  # the backbone's
    head.left.setdefault("norm_cfg", {"type": "BN"})
    plain_relu(head)
    norm = batch_norm(head)
    widths, readout = head.take("post_process_channels", (96, 192, 384, 768)), head.take("readout_type", "ignore")
    necks = necks_of(widths, readout, head.take("channels"), norm=norm, conv_bias=False, fit="skip")
    return necks, {"type": "DPTHead", "norm": norm, **classifier(head)}


# ---- isl-org/DPT -------------------------------------------------------------------------------------

ISL_SIZES = {
    "vitb16_384": {"embed_dim": 768, "depth": 12, "num_heads": 12, "hooks": (2, 5, 8, 11)},
    "vitl16_384": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "hooks": (5, 11, 17, 23)},
}
ISL_WIDTHS = {"vitb16_384": (96, 192, 384, 768), "vitl16_384": (256, 512, 1024, 1024)}
ISL_TYPES = ("DPTDepthModel", "DPTSegmentationModel")


def from_isl(model: Settings) -> dict[str, Any]:
    """DPTDepthModel and DPTSegmentationModel: `kwargs` are their arguments, `vit` the sizes where no name has them."""
    if model.type not in ISL_TYPES:
        raise NotBuilt(f"{model.where}.type is {model.type!r} of isl-org, which densevit has no counterpart of.")
    given = model.part("kwargs", {})
    name = given.take("backbone", "vitb_rn50_384" if "vit" not in model.left else None)
    if name is not None and name not in ISL_SIZES:
        raise NotBuilt(
            f"{given.where}.backbone is {name!r}; densevit has {', '.join(ISL_SIZES)}, and no hybrid of convolutions "
            f"and a transformer."
        )
    sizes = {**ISL_SIZES[name], "features": ISL_WIDTHS[name]} if name is not None else {}
    vit = Settings({"img_size": 384, **sizes, **model.take("vit", {})}, f"{model.where}.vit")
    vit.ignore("num_classes")  # of the classifier, which nothing uses
    readout = given.take("readout", "project")
    backbone = {
        "type": "ViT",
        "arch": arch_of(vit, "embed_dim", "depth", "num_heads", "mlp_ratio"),
        "patch_size": vit.take("patch_size", 16),
        "img_size": side_pair(vit.take("img_size")),
        "out_indices": tuple(vit.take("hooks")),
        "final_norm": None,
        "append_cls_token": readout != "ignore",
        "table_mode": "bilinear",
    }
    widths = vit.take("features")
    vit.done()
    features = given.take("features", 256)
    given.ignore("channels_last", "enable_attention_hooks", "path")
    if model.type == "DPTSegmentationModel":
        given.ignore("use_bn")  # always
        norm = "BN"
        head = {"type": "DPTHead", "num_classes": given.take("num_classes"), "doubled": True}
    else:
        norm = "BN" if given.take("use_bn", False) else None
        scale, shift = given.take("scale", 1.0), given.take("shift", 0.0)
        inverse = given.take("invert", False)
        head = {"type": "DPTDepthHead", "kind": "inverse" if inverse else "relative"}
        head |= {"inverse": (scale, shift)} if inverse else {}
        head |= {} if given.take("non_negative", True) else {"non_negative": False}
    given.done()
    model.done()
    necks = necks_of(widths, readout, features, norm=norm)
    return whole_model(backbone, necks, head, mean=HALF, std=HALF, size_divisor=32)


# ---- Depth-Anything ----------------------------------------------------------------------------------

ENCODERS = {
    "vits": ("vit_small", (2, 5, 8, 11)),
    "vitb": ("vit_base", (2, 5, 8, 11)),
    "vitl": ("vit_large", (4, 11, 17, 23)),
    "vitg": ("vit_giant2", (9, 19, 29, 39)),
}
"""Depth-Anything's name -> DINOv2's, and the blocks that V2 looks at. V1 looks at the last four."""

FIRST, SECOND = ("DPT_DINOv2", "DepthAnything"), ("DepthAnythingV2",)
PATCH = 14


def from_depth_anything(model: Settings) -> dict[str, Any]:
    """DPT_DINOv2 (V1) and DepthAnythingV2: `kwargs` are their arguments, `vit` the sizes where no name has them.

    The metric V2 has the same class name; it is told by `max_depth`, or by a `variant` that says 'metric'.
    """
    if model.type not in (*FIRST, *SECOND):
        raise NotBuilt(f"{model.where}.type is {model.type!r} of depth-anything, which densevit has no counterpart of.")
    model.ignore("input_size")  # of its test images
    given = model.part("kwargs", {})
    metric = "metric" in str(model.take("variant", "")) or "max_depth" in given.left
    name = given.take("encoder", "vitl")
    if name not in ENCODERS:
        raise ConfigError(f"{given.where}.encoder is {name!r}; densevit knows {', '.join(ENCODERS)}.")
    known, blocks = ENCODERS[name]
    sizes = dict(model.take("vit", {}))
    taps = sizes.pop("intermediate_layer_idx", None if sizes else blocks)
    ffn = {"ffn_layer": "swiglufused"} if name == "vitg" else {}
    sizes = {"img_size": 518, "patch_size": PATCH, "init_values": 1.0, **ffn, **sizes}
    backbone = from_dinov2(Settings({"arch": known, **sizes}, f"{model.where}.vit"))
    depth = backbone["arch"]["depth"]
    if model.type in FIRST:
        taps = range(depth - 4, depth)
    elif taps is None:
        raise ConfigError(f"{model.where}.vit lacks 'intermediate_layer_idx', the blocks that the head looks at.")
    readout = "project" if given.take("use_clstoken", False) else "ignore"
    backbone |= {"out_indices": tuple(taps), "append_cls_token": readout != "ignore"}
    widths, features = given.take("out_channels", (256, 512, 1024, 1024)), given.take("features", 256)
    norm = "BN" if given.take("use_bn", False) else None
    head: dict[str, Any] = {"type": "DPTDepthHead", "kind": "sigmoid" if metric else "relative"}
    head |= {"max_depth": given.take("max_depth", 20.0)} if metric else {}
    head["align_corners"] = model.type in SECOND
    given.ignore("localhub")
    given.done()
    model.done()
    necks = necks_of(widths, readout, features, norm=norm, conv_bias=True)
    return whole_model(backbone, necks, head, size_divisor=backbone["patch_size"])
