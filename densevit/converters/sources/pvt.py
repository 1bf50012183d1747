"""whai362/PVT: OpenMMLab's models around its own backbones."""

from densevit.converters.source import Source
from densevit.converters.sources import mmdet, mmseg

SOURCE = Source(
    prefixes=(*mmdet.PREFIXES, *mmseg.PREFIXES), models={**mmdet.MODELS, **mmseg.MODELS}, names=("whai362",)
)
