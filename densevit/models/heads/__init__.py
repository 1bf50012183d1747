"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import cascade, depth_fpn, mask_rcnn, retinanet, semantic_fpn  # noqa: F401
