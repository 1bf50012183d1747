"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import depth_fpn, retinanet, semantic_fpn  # noqa: F401
