"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import (  # noqa: F401
    cascade,
    depth_dpt,
    depth_fpn,
    dpt,
    fcn,
    mask_rcnn,
    progressive,
    retinanet,
    segmenter,
    semantic_fpn,
    setr,
)
