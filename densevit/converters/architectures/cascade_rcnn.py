"""Cascade R-CNN's head: names of mmdetection (2.x and 3.x alike) and detectron2."""

from densevit.converters.architecture import Architecture
from densevit.converters.architectures.mask_rcnn import RPN, detectron2_stage, mmdet_stage

ARCHITECTURE = Architecture(
    "CascadeRCNNHead",
    keys={
        "mmdet": [*RPN["mmdet"], *mmdet_stage(".{}", "boxes.{}", "masks.{}")],
        "detectron2": [*RPN["detectron2"], *detectron2_stage(".{}", "boxes.{}", "masks.0")],
    },
)
