"""Every project whose files are read: one table, from which all dispatch goes."""

from collections.abc import Collection, Mapping
from typing import Any

from densevit.checkpoints.embedded_config import CheckpointFiles, EmbeddedConfig
from densevit.converters.architectures import ARCHITECTURES, translate_part
from densevit.converters.config_spec import ConfigReader
from densevit.converters.source import Source
from densevit.converters.sources import (
    depth_anything,
    detectron2,
    dpt,
    mmdet,
    mmseg,
    pvt,
    segmenter,
    timm,
    transformers,
    vit_adapter,
)
from densevit.errors import CheckpointError

OWN = "densevit"
SOURCES = {
    "detectron2": detectron2.SOURCE, "mmdet": mmdet.SOURCE, "mmseg": mmseg.SOURCE, "pvt": pvt.SOURCE,
    "vit_adapter": vit_adapter.SOURCE, "segmenter": segmenter.SOURCE, "depth_anything": depth_anything.SOURCE,
    "dpt": dpt.SOURCE, "transformers": transformers.SOURCE, "timm": timm.SOURCE, "swin": Source(names=("microsoft",)),
    "mvit": Source(names=("facebookresearch-mvit",)), "dinov2": Source(), "dinov3": Source(),
}  # fmt: skip
ALIASES = {name: source for source, known in SOURCES.items() for name in known.names}
"""Older names of sources, accepted where a user may have written them."""


def open_checkpoint(files: CheckpointFiles) -> EmbeddedConfig:
    """What a file or a folder carries, in its own project's terms. Raises CheckpointError where it carries nothing."""
    for source in SOURCES.values():
        found = source.open(files) if source.open is not None else None
        if found is not None:
            return found
    if files.path.is_dir():
        raise CheckpointError(
            f"{files.path} has no config.json with model.safetensors or pytorch_model.bin beside it, and no "
            "variant.yml with checkpoint.pth."
        )
    raise CheckpointError(
        f"{files.path} carries no configuration (no text under meta.cfg): build the model from a config and use "
        f"load_weights(model, file)."
    )


def translate(source: str, config: Mapping[str, Any], names: Collection[str] = ()) -> dict[str, Any]:
    """Our configuration of the model that `config` describes in a source's own terms.

    Args:
        source: a project, one of SOURCES.
        config: a part (`type='PyramidVisionTransformer'`) or a whole model (`type='RetinaNet'`).
        names: of the tensors that the model is for, which determine what a configuration may leave open.

    Returns:
        dict: what densevit's MODELS builds.

    Raises:
        UnsupportedModelError: no such model here. ConfigError: a key that is unknown, or a value that densevit lacks.
    """
    source = ALIASES.get(source, source)
    known = SOURCES.get(source, Source())
    lazy = isinstance(config, Mapping) and "lazy_config" in config  # the model is a part of it
    reader = ConfigReader(config["model"] if lazy else config, "model")
    if reader.type is None and known.type_key is not None:
        reader.type = reader.remaining.get(known.type_key)
    assemble = known.models.get(reader.type, known.models.get("*", translate_part))
    ours = assemble(source, reader)
    for part in (ours, ours.get("backbone", {})):
        architecture = ARCHITECTURES.get(part.get("type"))
        if names and architecture is not None and architecture.infer_from_keys is not None:
            architecture.infer_from_keys(part, source, {name.rsplit("backbone.", 1)[-1] for name in names})
    return ours
