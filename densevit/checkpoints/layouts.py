"""Where each source keeps the parts of a whole model in its files."""

from typing import NamedTuple

from densevit.checkpoints.architectures import TABLES


class Place(NamedTuple):
    """theirs: prefix of a part in a file; ours: prefix of the part here; kept: what of theirs the tables know."""

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
PREFIXES = {"mmdet": _MMDET, "whai362": _MMDET, "detectron2": _DETECTRON2}
"""Source -> where its files keep the parts. whai362's detectors are mmdetection's around its own backbone."""

NOT_OURS = ("data_preprocessor.", "pixel_mean", "pixel_std")
"""Prefixes of what a detector's file may hold beside the network: constants that the configuration gives."""

SOURCES = tuple(dict.fromkeys([*PREFIXES, *(source for tables in TABLES.values() for source in tables)]))
