"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import (  # noqa: F401
    cascade,
    depth_fpn,
    fcn,
    mask_rcnn,
    retinanet,
    segmenter,
    semantic_fpn,
    setr,
)
