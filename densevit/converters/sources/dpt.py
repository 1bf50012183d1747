"""isl-org/DPT: files of tensors alone, whose names and shapes determine the model."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densevit.archs import VIT
from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures.dpt import necks_of, test_resize
from densevit.converters.architectures.vit_configs import DPT
from densevit.converters.config_spec import ConfigReader, UnsupportedModelError, whole_model
from densevit.converters.source import EmbeddedConfig, Source, prefixes
from densevit.errors import CheckpointError

HALF = (127.5, 127.5, 127.5)
"""Mean and deviation of its images."""
SIDE, SIDE_OF_CLASSES = 384, 480
"""Of test images."""
SIZES = {
    "vitb16_384": {**VIT["base"], "hooks": (2, 5, 8, 11), "features": (96, 192, 384, 768)},
    "vitl16_384": {**VIT["large"], "hooks": (5, 11, 17, 23), "features": (256, 512, 1024, 1024)},
}
"""features: of the maps, fine to coarse."""


def infer_config_from_shapes(files: CheckpointFiles) -> EmbeddedConfig | None:
    """The model of a file without configuration; None where it is none of this repository's."""
    if files.path.is_dir() or "scratch.refinenet1.out_conv.weight" not in (state := files.state):
        return None
    if any(key.startswith("pretrained.model.patch_embed.backbone.") for key in state):
        raise UnsupportedModelError(
            f"{files.path} holds DPT-Hybrid, whose patches come from a ResNet; densevit has DPT on plain transformers."
        )
    if "pretrained.model.pos_embed" not in state:
        raise UnsupportedModelError(
            f"{files.path} holds MiDaS around a convolutional network; densevit has DPT on vision transformers."
        )
    vit = vit_sizes(state, "pretrained.model.")
    depth, classes = vit["depth"], "scratch.output_conv.1.running_mean" in state
    hooks = {sizes["depth"]: sizes["hooks"] for sizes in SIZES.values()}
    if depth not in hooks:
        raise CheckpointError(
            f"{files.path} holds a DPT of {depth} blocks; densevit knows the outputs of those of 12 and of 24."
        )
    widths = [state[f"pretrained.act_postprocess{i}.3.weight"].shape[0] for i in range(1, 5)]
    projected = "pretrained.act_postprocess1.0.project.0.weight" in state
    kwargs = {**fusion_sizes(state, "scratch."), "readout": "project" if projected else "ignore"}
    if classes:
        kwargs["num_classes"] = state["scratch.output_conv.4.weight"].shape[0]
    kind = "DPTSegmentationModel" if classes else "DPTDepthModel"
    config = {"type": kind, "vit": {**vit, "hooks": hooks[depth], "features": widths}, "kwargs": kwargs}
    resize = test_resize(SIDE_OF_CLASSES if classes else SIDE, 32, "closest")
    return EmbeddedConfig("dpt", config, str(files.path), {}, resize)


def vit_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, int]:
    """Sizes of the transformer under `prefix`; heads have 64 channels in all of them."""
    table, kernel = state[f"{prefix}pos_embed"], state[f"{prefix}patch_embed.proj.weight"]
    blocks = [re.match(re.escape(prefix) + r"blocks\.(\d+)\.", key) for key in state]
    patch, width = kernel.shape[-1], table.shape[2]
    return {
        "img_size": math.isqrt(table.shape[1] - 1) * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": 1 + max(int(found.group(1)) for found in blocks if found is not None),
        "num_heads": max(width // 64, 1),
    }


def fusion_sizes(state: Mapping[str, Tensor], scratch: str) -> dict[str, Any]:
    """Options of the fusion, which Depth-Anything has as well."""
    return {
        "features": state[f"{scratch}refinenet1.out_conv.weight"].shape[0],
        "use_bn": f"{scratch}refinenet1.resConfUnit2.bn1.weight" in state,
    }


def dpt(source: str, model: ConfigReader) -> dict[str, Any]:
    """DPTDepthModel and DPTSegmentationModel: `kwargs` are their arguments, `vit` the sizes where no name has them."""
    model.of_type("DPTDepthModel", "DPTSegmentationModel")
    given = model.part("kwargs", {})
    name = given.pop("backbone", "vitb_rn50_384" if "vit" not in model.remaining else None)
    if name is not None and name not in SIZES:
        raise UnsupportedModelError(
            f"{given.where}.backbone is {name!r}; densevit has {', '.join(SIZES)}, and no hybrid of convolutions "
            f"and a transformer."
        )
    vit = ConfigReader({"img_size": 384, **SIZES.get(name, {}), **model.pop("vit", {})}, f"{model.where}.vit")
    readout, widths = given.pop("readout", "project"), vit.pop("features")
    backbone = DPT(vit) | {"append_cls_token": readout != "ignore"}
    features, norm = given.pop("features", 256), "BN" if given.pop("use_bn", False) else None
    given.ignore("channels_last", "enable_attention_hooks", "path")
    if model.type == "DPTSegmentationModel":
        norm, head = "BN", {"type": "DPTHead", "num_classes": given.pop("num_classes"), "doubled": True}
    else:
        scale, shift, inverse = given.pop("scale", 1.0), given.pop("shift", 0.0), given.pop("invert", False)
        head = {"type": "DPTDepthHead", "kind": "inverse" if inverse else "relative"}
        head |= {"inverse": (scale, shift)} if inverse else {}
        head |= {} if given.pop("non_negative", True) else {"non_negative": False}
    given.finish()
    model.finish()
    necks = necks_of(widths, readout, features, norm=norm)
    return whole_model(backbone, necks, head, {"mean": HALF, "std": HALF, "size_divisor": 32})


SOURCE = Source(
    prefixes(
        "pretrained.model.->backbone. pretrained.|act_postprocess->DPTReassemble scratch.|layer->DPTFusion "
        "scratch.|refinenet->DPTFusion scratch.|output_conv.->head. |auxlayer.->head."
    ),
    {"*": dpt}, infer_config_from_shapes, names=("isl-org",),
)  # fmt: skip
