"""The models and pipelines of other projects that our recipes are compared with."""

from pathlib import Path

from densevit.engine.config import shipped_configs
from densevit.errors import ConfigError

UPERNET = "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"
REFERENCE_MODELS = {
    ("pvt_retinanet_coco", "mmdet"): "retinanet_pvt-t_fpn_1x_coco",
    ("pvt_v2_retinanet_coco", "mmdet"): "retinanet_pvtv2-b0_fpn_1x_coco",
    ("swin_maskrcnn_coco", "mmdet"): "mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco",
    ("swin_upernet_ade20k", "mmseg"): UPERNET,
    ("vit_upernet_ade20k", "mmseg"): "vit_vit-b16-ln_mln_upernet_8xb2-160k_ade20k-512x512",
    ("vit_segmenter_ade20k", "mmseg"): "segmenter_vit-s_mask_8xb1-160k_ade20k-512x512",
}
"""(our recipe, project) -> the project's config file."""
NAMED_MODELS = ("timm", "transformers", "torchvision")
"""Projects without recipes: their models are given by name."""


def reference_model(config: str, peer: str, peer_model: str | None = None) -> tuple[str, bool]:
    """The peer's model to compare `config` with, and whether ours is built from its weights file (True) or from the
    recipe `config` (False).

    Raises ConfigError where a recipe has no known counterpart.
    """
    ours = is_recipe(config)
    if peer == "densevit":
        return peer_model or config, False
    if peer_model is not None:
        return peer_model, not ours
    if not ours:
        return config, True
    name = config.rsplit("/", 1)[-1].removesuffix(".py")
    if (name, peer) not in REFERENCE_MODELS:
        known = [recipe for recipe, project in REFERENCE_MODELS if project == peer]
        if peer in NAMED_MODELS:
            way = f"give the name of a model of {peer} in place of the recipe"
        else:
            way = f"name its model with --peer-model; known are those of {', '.join(known)}"
        raise ConfigError(f"of the recipe {config} no counterpart in {peer} is known: {way}.")
    return REFERENCE_MODELS[name, peer], False


def is_recipe(config: str) -> bool:
    """Whether `config` is a config file of ours or the name of a shipped one."""
    if config.removesuffix(".py") in shipped_configs():
        return True
    path = Path(config)
    return path.suffix == ".py" and path.is_file() and "DensePredictor" in path.read_text(errors="replace")
