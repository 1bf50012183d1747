"""Metrics that a config can name; importing this package registers them."""

from densevit.metrics.coco import CocoMetric
from densevit.metrics.coco_eval import evaluate_coco
from densevit.metrics.depth import DepthMetric
from densevit.metrics.semantic import SemanticMetric

__all__ = ["CocoMetric", "DepthMetric", "SemanticMetric", "evaluate_coco"]
