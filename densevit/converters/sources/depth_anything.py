"""Depth-Anything: files of tensors alone, whose names and shapes determine the model.

They do not determine what its numbers mean: V1 and V2 read other blocks, the metric models end otherwise, and all have
the same names and shapes. The published names of the files do, or the user.
"""

import re
import warnings
from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.architectures.dpt import necks_of, test_resize
from densevit.converters.architectures.vit_configs import DINOV2, SIZES
from densevit.converters.config_spec import ConfigReader, whole_model
from densevit.converters.source import EmbeddedConfig, Source, prefixes
from densevit.converters.sources.dpt import fusion_sizes, vit_sizes
from densevit.errors import CheckpointError, ConfigError

VARIANT = re.compile(r"depth_anything_(v1|vit[sblg]14|v2_metric_(hypersim|vkitti|\d+(?:\.\d+)?)|v2)")
VARIANTS = "depth_anything_v1, depth_anything_v2, depth_anything_v2_metric_20 (or another largest depth in meters)"
MAX_DEPTH = {"hypersim": 20.0, "vkitti": 80.0}
"""Meters, of the published metric models by the data that they were trained on."""
SIDE, PATCH = 518, 14
"""Of test images, and of patches."""
ENCODERS = {
    "vits": ("vit_small", (2, 5, 8, 11)), "vitb": ("vit_base", (2, 5, 8, 11)), "vitl": ("vit_large", (4, 11, 17, 23)),
    "vitg": ("vit_giant2", (9, 19, 29, 39)),
}  # fmt: skip
"""Its names -> DINOv2's, and the blocks that V2 reads. V1 reads the last four."""
FIRST, SECOND = ("DPT_DINOv2", "DepthAnything"), ("DepthAnythingV2",)


def open_files(files: CheckpointFiles) -> EmbeddedConfig | None:
    """A folder with V1's config.json, or a file without configuration."""
    resize = test_resize(SIDE, PATCH)
    if files.path.is_dir():
        path, config = files.read_json("config.json")
        if not isinstance(config, dict) or not {"encoder", "out_channels"} <= config.keys():
            return None
        return EmbeddedConfig("depth_anything", {"type": FIRST[0], "kwargs": config}, str(path), {}, resize)
    if "depth_head.scratch.refinenet1.out_conv.weight" in files.state:
        return EmbeddedConfig("depth_anything", infer_config_from_shapes(files), str(files.path), {}, resize)
    if files.variant is not None:
        raise CheckpointError(
            f"{files.path} holds no Depth-Anything that could be the variant {files.variant!r}: omit the variant."
        )
    return None


def infer_config_from_shapes(files: CheckpointFiles) -> dict[str, Any]:
    """The configuration of a file: its variant by its name or by the user, its sizes by the shapes.

    Raises CheckpointError: no such variant, or sizes that no published model has.
    """
    state, variant, name = files.state, files.variant, files.path.stem
    named = VARIANT.search((variant or name).lower().replace("-", "_"))
    if variant is not None and (named is None or named.group() != variant):
        raise CheckpointError(f"{files.path} has no variant {variant!r}: choose from {VARIANTS}.")
    if named is None:
        warnings.warn(
            f"{name} does not state which Depth-Anything it is, and its tensors cannot: it is taken for a relative "
            f"model of version 2; otherwise use import_model(file, variant=...): {VARIANTS}.",
            stacklevel=2,
        )
    first, metric = named is not None and named.group(1)[:2] != "v2", named and named.group(2)
    vit = vit_sizes(state, "pretrained.")
    sizes = {(SIZES[size]["embed_dim"], SIZES[size]["depth"]): encoder for encoder, (size, _) in ENCODERS.items()}
    encoder = sizes.get((vit["embed_dim"], vit["depth"]))
    if encoder is None:
        raise CheckpointError(
            f"{files.path} holds a Depth-Anything of {vit['depth']} blocks with {vit['embed_dim']} channels, which is "
            f"none of {', '.join(ENCODERS)}: build the model from a config and use load_weights(model, file)."
        )
    kwargs = {
        "encoder": encoder,
        **fusion_sizes(state, "depth_head.scratch."),
        "out_channels": [state[f"depth_head.projects.{i}.weight"].shape[0] for i in range(4)],
        "use_clstoken": "depth_head.readout_projects.0.0.weight" in state,
    }
    if metric is not None:
        kwargs["max_depth"] = MAX_DEPTH.get(metric) or float(metric)
    return {"type": FIRST[0] if first else SECOND[0], "kwargs": kwargs}


def depth_anything(source: str, model: ConfigReader) -> dict[str, Any]:
    """DPT_DINOv2 (V1) and DepthAnythingV2: `kwargs` are their arguments, `vit` the sizes where no name has them.

    The metric V2 has the same class name; `max_depth` distinguishes it, or a `variant` with 'metric' in it.
    """
    model.of_type(*FIRST, *SECOND)
    model.ignore("input_size")  # of its test images
    given = model.part("kwargs", {})
    metric = "metric" in str(model.pop("variant", "")) or "max_depth" in given.remaining
    name = given.pop("encoder", "vitl")
    if name not in ENCODERS:
        raise ConfigError(f"{given.where}.encoder is {name!r}; densevit knows {', '.join(ENCODERS)}.")
    known, blocks = ENCODERS[name]
    sizes = dict(model.pop("vit", {}))
    taps = sizes.pop("intermediate_layer_idx", None if sizes else blocks)
    ffn = {"ffn_layer": "swiglufused"} if name == "vitg" else {}
    sizes = {"arch": known, "img_size": SIDE, "patch_size": PATCH, "init_values": 1.0, **ffn, **sizes}
    backbone = DINOV2(ConfigReader(sizes, f"{model.where}.vit"))
    depth = backbone["arch"]["depth"]
    if model.type in FIRST:
        taps = range(depth - 4, depth)
    elif taps is None:
        raise ConfigError(f"{model.where}.vit lacks 'intermediate_layer_idx', the blocks that the head reads.")
    readout = "project" if given.pop("use_clstoken", False) else "ignore"
    backbone |= {"out_indices": tuple(taps), "append_cls_token": readout != "ignore"}
    widths, features = given.pop("out_channels", (256, 512, 1024, 1024)), given.pop("features", 256)
    norm = "BN" if given.pop("use_bn", False) else None
    head: dict[str, Any] = {"type": "DPTDepthHead", "kind": "sigmoid" if metric else "relative"}
    head |= {"max_depth": given.pop("max_depth", 20.0)} if metric else {}
    head["align_corners"] = model.type in SECOND
    given.ignore("localhub")
    given.finish()
    model.finish()
    necks = necks_of(widths, readout, features, norm=norm, conv_bias=True)
    return whole_model(backbone, necks, head, {"size_divisor": backbone["patch_size"]})


SOURCE = Source(
    prefixes(
        "pretrained.->backbone. depth_head.->DPTReassemble depth_head.scratch.|layer->DPTFusion "
        "depth_head.scratch.|refinenet->DPTFusion depth_head.scratch.|output_conv->head."
    ),
    {"*": depth_anything}, open_files, names=("depth-anything",),
)  # fmt: skip
