"""Any backbone of timm, under its own names."""

from densevit.converters.config_spec import Architecture, Tolerated
from densevit.converters.key_mapping import rules

COMPUTED = (r".*\.(relative_position_index|relative_coords_table|attn_mask)",)
"""In older files."""
ARCHITECTURES = (Architecture("TimmBackbone", {"timm": rules("*->model.*")}, tolerated=Tolerated(unused=COMPUTED)),)
