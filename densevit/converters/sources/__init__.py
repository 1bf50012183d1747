"""Every project whose files are read: one table, from which all dispatch goes."""

from typing import Any

from densevit.checkpoints.reading import CheckpointFiles
from densevit.converters.config_spec import ConfigReader
from densevit.converters.source import EmbeddedConfig, Source
from densevit.converters.sources import depth_anything, detectron2, dpt, mmdet, mmseg, segmenter, transformers

OWN = "densevit"
OPENMMLAB = mmdet.PREFIXES + mmseg.PREFIXES
CODES = {**dict.fromkeys(mmdet.MODELS, "mmdet"), **dict.fromkeys(mmseg.MODELS, "mmseg")}


def _either(_: str, reader: ConfigReader) -> dict[str, Any]:
    """A model of OpenMMLab's around ViT-Adapter, which detection and segmentation run differently."""
    name = CODES[reader.type]
    return SOURCES[name].models[reader.type](name, reader)


def open_timm(files: CheckpointFiles) -> EmbeddedConfig | None:
    """config.json of a folder that is none of the other sources'; its `architecture` names the model."""
    path, config = files.read_json("config.json")
    return None if path is None else EmbeddedConfig("timm", config, str(path))


SOURCES = {
    "mmdet": mmdet.SOURCE, "mmseg": mmseg.SOURCE, "detectron2": detectron2.SOURCE,
    # OpenMMLab's models around their own backbones
    "pvt": Source(OPENMMLAB, {**mmdet.MODELS, **mmseg.MODELS}, names=("whai362",)),
    "vit_adapter": Source(OPENMMLAB, dict.fromkeys(CODES, _either), names=("czczup",)), "segmenter": segmenter.SOURCE,
    "depth_anything": depth_anything.SOURCE, "dpt": dpt.SOURCE, "transformers": transformers.SOURCE,
    "timm": Source(open=open_timm, type_key="architecture"), "swin": Source(names=("microsoft",)),
    "mvit": Source(names=("facebookresearch-mvit",)), "dinov2": Source(), "dinov3": Source(),
}  # fmt: skip
ALIASES = {name: source for source, known in SOURCES.items() for name in known.names}
"""Older names of sources, accepted where a user may have written them."""
