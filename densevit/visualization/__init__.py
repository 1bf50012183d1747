"""Pictures of predictions: boxes with names, semantic classes with a legend, depth with a scale, ground truth beside
prediction, contact sheets. Drawn by cv2, BGR uint8."""

from densevit.visualization.contact_sheet import contact_sheet, draw_ground_truth_and_prediction, enlarged, side_by_side
from densevit.visualization.depth import SmoothedRange, depth_limits, draw_depth, has_depth
from densevit.visualization.instances import draw_instances
from densevit.visualization.io import write_image
from densevit.visualization.maps import draw_classes
from densevit.visualization.palette import class_color, palette, text_color
from densevit.visualization.points import draw_points

__all__ = [
    "SmoothedRange",
    "class_color",
    "contact_sheet",
    "depth_limits",
    "draw_classes",
    "draw_depth",
    "draw_ground_truth_and_prediction",
    "draw_instances",
    "draw_points",
    "enlarged",
    "has_depth",
    "palette",
    "side_by_side",
    "text_color",
    "write_image",
]
