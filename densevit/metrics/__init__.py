"""Metrics that a config can name; importing this package registers them."""

from densevit.metrics.coco import CocoMetric
from densevit.metrics.coco_figures import evaluate_coco

__all__ = ["CocoMetric", "evaluate_coco"]
