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
    Place("backbone.net.", "backbone."),
    Place("backbone.simfp_", "neck.", "simfp_"),
    *(Place(theirs, "backbone.") for theirs in ("bottom_up.", "net.")),  # of a pyramid alone
    *(Place(theirs, "neck.", theirs) for theirs in ("fpn_", "simfp_")),
    Place("proposal_generator.", "head.", "proposal_generator."),
    Place("roi_heads.", "head.", "roi_heads."),
)
_MMSEG = (
    Place("backbone.", "backbone."),
    Place("neck.", "neck."),
    Place("neck.", "neck.0."),
    *(Place(f"decode_head.{word}", "UPerNet", word) for word in POOLED_AND_FUSED),
    Place("decode_head.reassemble_blocks.", "DPTReassemble"),
    *(Place(f"decode_head.{word}.", "DPTFusion", f"{word}.") for word in ("convs", "fusion_blocks")),
    Place("decode_head.", "head."),
    Place("auxiliary_head.{}.", "auxiliary.{}."),
    Place("auxiliary_head.", "auxiliary.0."),
)
_RSTRUDEL = (Place("encoder.", "backbone."), Place("decoder.", "head."))
_ISL = (
    Place("pretrained.model.", "backbone."),
    Place("pretrained.act_postprocess", "DPTReassemble", "act_postprocess"),
    *(Place(f"scratch.{word}", "DPTFusion", word) for word in ("layer", "refinenet")),
    *(Place(f"{start}{word}.", "head.", f"{word}.") for start, word in (("scratch.", "output_conv"), ("", "auxlayer"))),
)
_DEPTH_ANYTHING = (
    Place("pretrained.", "backbone."),
    Place("depth_head.", "DPTReassemble"),
    *(Place(f"depth_head.scratch.{word}", "DPTFusion", word) for word in ("layer", "refinenet")),
    Place("depth_head.scratch.output_conv", "head.", "output_conv"),
)
_TRANSFORMERS = (
    *_MMSEG,
    Place("dpt.", "backbone."),
    Place("neck.reassemble_stage.", "DPTReassemble"),
    *(Place(f"neck.{word}.", "DPTFusion", f"{word}.") for word in ("convs", "fusion_stage")),
    Place("head.", "head."),
    Place("head.", "DPTHead"),
    Place("auxiliary_head.", "DPTHead", "auxiliary_head."),
)
PREFIXES = {
    "mmdet": _MMDET,
    "mmseg": _MMSEG,
    **dict.fromkeys(("whai362", "czczup"), (*_MMDET, *_MMSEG)),
    "detectron2": _DETECTRON2,
    "transformers": _TRANSFORMERS,
    "rstrudel": _RSTRUDEL,
    "isl-org": _ISL,
    "depth-anything": _DEPTH_ANYTHING,
}
"""Source -> where its files keep the parts. whai362's and czczup's whole models are OpenMMLab's around their own
backbones, and transformers' UperNet is mmsegmentation's."""

NOT_OURS = ("data_preprocessor.", "pixel_mean", "pixel_std")
"""Prefixes of what a whole model's file may hold beside the network: constants that the configuration gives."""

SOURCES = tuple(dict.fromkeys([*PREFIXES, *(source for tables in TABLES.values() for source in tables)]))
