"""Any backbone of timm, under its own names."""

from densevit.converters.architecture import Architecture, Tolerated
from densevit.converters.key_mapping import KeyRule

ARCHITECTURE = Architecture(
    "TimmBackbone",
    keys={"timm": [KeyRule("*", "model.*")]},
    # computed, in older files
    tolerated=Tolerated(unused=(r".*\.(relative_position_index|relative_coords_table|attn_mask)",)),
)
