"""A small labelled world, rendered: `render(seed, index, size)` gives a picture and labels that agree to the pixel.

A test bed that runs without a dataset. No metric on it is comparable with those on COCO, ADE20K, NYU or KITTI.
"""

from densevit.datasets.scenes.classes import CATEGORY_IDS, OBJECT_CLASSES, SEMANTIC_CLASSES
from densevit.datasets.scenes.render import Scene, render

__all__ = ["CATEGORY_IDS", "OBJECT_CLASSES", "SEMANTIC_CLASSES", "Scene", "render"]
