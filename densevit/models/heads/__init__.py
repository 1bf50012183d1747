"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import (  # noqa: F401
    cascade_rcnn,
    dpt,
    dpt_depth,
    fcn,
    fpn_depth,
    gradual_depth,
    mask_rcnn,
    retinanet,
    segmenter,
    semantic_fpn,
    setr,
)
