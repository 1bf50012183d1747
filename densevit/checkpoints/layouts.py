"""Where each source keeps the parts of a whole model in its files."""

from typing import NamedTuple

from densevit.checkpoints.architectures import TABLES
from densevit.checkpoints.upernet import POOLED_AND_FUSED


class Place(NamedTuple):
    """theirs: prefix of a part in a file; ours: prefix of the part here, or the name of its class; kept: what of theirs
    the tables know. `{}` is the number of one of several, carried over."""

    theirs: str
    ours: str
    kept: str = ""


_MMDET = (
    Place("backbone.", "backbone."),
    Place("neck.", "neck."),
    Place("bbox_head.", "head."),
    Place("rpn_head.", "head.", "rpn_head."),
    Place("roi_head.", "head.", "roi_head."),
)
_DETECTRON2 = (
    Place("backbone.bottom_up.", "backbone."),
    Place("backbone.fpn_", "neck.", "fpn_"),
    Place("proposal_generator.", "head.", "proposal_generator."),
    Place("roi_heads.", "head.", "roi_heads."),
)
_MMSEG = (
    Place("backbone.", "backbone."),
    Place("neck.", "neck."),
    Place("neck.", "neck.0."),
    *(Place(f"decode_head.{word}", "UPerNet", word) for word in POOLED_AND_FUSED),
    Place("decode_head.", "head."),
    Place("auxiliary_head.{}.", "auxiliary.{}."),
    Place("auxiliary_head.", "auxiliary.0."),
)
_RSTRUDEL = (Place("encoder.", "backbone."), Place("decoder.", "head."))
PREFIXES = {
    "mmdet": _MMDET,
    "mmseg": _MMSEG,
    "whai362": (*_MMDET, *_MMSEG),
    "detectron2": _DETECTRON2,
    "transformers": _MMSEG,
    "rstrudel": _RSTRUDEL,
}
"""Source -> where its files keep the parts. whai362's whole models are OpenMMLab's around its own backbone, and
transformers' UperNet is mmsegmentation's."""

NOT_OURS = ("data_preprocessor.", "pixel_mean", "pixel_std")
"""Prefixes of what a whole model's file may hold beside the network: constants that the configuration gives."""

SOURCES = tuple(dict.fromkeys([*PREFIXES, *(source for tables in TABLES.values() for source in tables)]))
