"""Files of Depth-Anything's and isl-org's repositories: tensors alone, whose names and shapes tell the model.

What they do not tell is what Depth-Anything's numbers mean: V1 and V2 look at other blocks, the metric models end
otherwise, and all have the same names and shapes. The published names of the files say it, or the user does.
"""

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densevit.checkpoints.dpt_configs import ENCODERS, PATCH, test_resize
from densevit.checkpoints.settings import NotBuilt
from densevit.checkpoints.vit_configs import SIZES
from densevit.errors import CheckpointError

VARIANT = re.compile(r"depth_anything_(v1|vit[sblg]14|v2_metric_(hypersim|vkitti|\d+(?:\.\d+)?)|v2)")
VARIANTS = "depth_anything_v1, depth_anything_v2, depth_anything_v2_metric_20 (or another largest depth in metres)"
MAX_DEPTH = {"hypersim": 20.0, "vkitti": 80.0}
"""Metres, of the published metric models by the data that they were trained on."""
ISL_SIDE, ISL_SIDE_OF_CLASSES, SIDE = 384, 480, 518
"""Of test images; Depth-Anything's is the last."""

Found = tuple[str, dict[str, Any], dict[str, Any]]
"""Source, configuration in its terms, arguments of the test images' Resize."""


def told_by_shapes(state: Mapping[str, Tensor], name: str, variant: str | None) -> Found | None:
    """The model of a file without configuration; None where it is neither repository's.

    Args:
        state: its tensors.
        name: of the file, which tells the variant of a published one.
        variant: what the user says of a Depth-Anything, one of VARIANTS.

    Raises:
        CheckpointError: no such variant, or sizes that no published model has. NotBuilt: DPT-Hybrid.
    """
    if "depth_head.scratch.refinenet1.out_conv.weight" in state:
        return _depth_anything(state, name, variant)
    if variant is not None:
        raise CheckpointError(f"holds no Depth-Anything, whose variant {variant!r} could be: leave the variant out.")
    return _isl(state) if "scratch.refinenet1.out_conv.weight" in state else None


def _vit(state: Mapping[str, Tensor], prefix: str) -> dict[str, int]:
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


def _common(state: Mapping[str, Tensor], scratch: str) -> dict[str, Any]:
    """What both repositories' `kwargs` have."""
    return {
        "features": state[f"{scratch}refinenet1.out_conv.weight"].shape[0],
        "use_bn": f"{scratch}refinenet1.resConfUnit2.bn1.weight" in state,
    }


def _depth_anything(state: Mapping[str, Tensor], name: str, variant: str | None) -> Found:
    said = VARIANT.search((variant or name).lower().replace("-", "_"))
    if variant is not None and (said is None or said.group() != variant):
        raise CheckpointError(f"has no variant {variant!r}: choose from {VARIANTS}.")
    if said is None:
        warnings.warn(
            f"{name} does not say which Depth-Anything it is, and its tensors cannot: it is taken for a relative "
            f"model of version 2; if it is none, say import_model(file, variant=...): {VARIANTS}.",
            stacklevel=2,
        )
    first, of = said is not None and said.group(1)[:2] != "v2", said and said.group(2)
    vit = _vit(state, "pretrained.")
    sizes = {SIZES[size][:2]: encoder for encoder, (size, _) in ENCODERS.items()}
    encoder = sizes.get((vit["embed_dim"], vit["depth"]))
    if encoder is None:
        raise CheckpointError(
            f"holds a Depth-Anything of {vit['depth']} blocks with {vit['embed_dim']} channels, which is none of "
            f"{', '.join(ENCODERS)}: build the model from a config and use load_weights(model, file)."
        )
    kwargs = {
        "encoder": encoder,
        **_common(state, "depth_head.scratch."),
        "out_channels": [state[f"depth_head.projects.{i}.weight"].shape[0] for i in range(4)],
        "use_clstoken": "depth_head.readout_projects.0.0.weight" in state,
    }
    if of is not None:
        kwargs["max_depth"] = MAX_DEPTH.get(of) or float(of)
    config = {"type": "DPT_DINOv2" if first else "DepthAnythingV2", "kwargs": kwargs}
    return "depth-anything", config, test_resize(SIDE, PATCH)


def _isl(state: Mapping[str, Tensor]) -> Found:
    if any(key.startswith("pretrained.model.patch_embed.backbone.") for key in state):
        raise NotBuilt("holds DPT-Hybrid, whose patches come from a ResNet; densevit has DPT on plain transformers.")
    if "pretrained.model.pos_embed" not in state:
        raise NotBuilt("holds MiDaS around a convolutional network; densevit has DPT on vision transformers.")
    vit = _vit(state, "pretrained.model.")
    depth, classes = vit["depth"], "scratch.output_conv.1.running_mean" in state
    if depth not in (12, 24):
        raise CheckpointError(f"holds a DPT of {depth} blocks; densevit knows which of 12 and of 24 are looked at.")
    vit["hooks"] = (2, 5, 8, 11) if depth == 12 else (5, 11, 17, 23)
    vit["features"] = [state[f"pretrained.act_postprocess{i}.3.weight"].shape[0] for i in range(1, 5)]
    projected = "pretrained.act_postprocess1.0.project.0.weight" in state
    kwargs = {**_common(state, "scratch."), "readout": "project" if projected else "ignore"}
    if classes:
        kwargs["num_classes"] = state["scratch.output_conv.4.weight"].shape[0]
    config = {"type": "DPTSegmentationModel" if classes else "DPTDepthModel", "vit": vit, "kwargs": kwargs}
    return "isl-org", config, test_resize(ISL_SIDE_OF_CLASSES if classes else ISL_SIDE, 32, "closest")
