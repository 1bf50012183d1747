"""czczup/ViT-Adapter: OpenMMLab's models around its own backbone, which detection and segmentation run differently."""

from densevit.converters.source import Source
from densevit.converters.sources import mmdet, mmseg

SOURCE = Source(
    prefixes=(*mmdet.PREFIXES, *mmseg.PREFIXES),
    models={
        **dict.fromkeys(mmdet.MODELS, lambda _, reader: mmdet.detector("mmdet", reader)),
        **dict.fromkeys(mmseg.MODELS, lambda _, reader: mmseg.encoder_decoder("mmseg", reader)),
    },
    names=("czczup",),
)
