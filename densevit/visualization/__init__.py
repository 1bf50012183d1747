"""Pictures of what was found: boxes with names, truth beside prediction, contact sheets. cv2 alone, BGR uint8."""

from densevit.visualization.contact_sheet import contact_sheet, draw_truth_and_prediction, enlarged
from densevit.visualization.instances import draw_instances
from densevit.visualization.palette import class_color, palette, text_color
from densevit.visualization.writing import write_image

__all__ = [
    "class_color",
    "contact_sheet",
    "draw_instances",
    "draw_truth_and_prediction",
    "enlarged",
    "palette",
    "text_color",
    "write_image",
]
