"""Maps to losses and predictions: `loss(features, samples)`, `predict(features, samples)`."""

from densevit.models.heads import retinanet  # noqa: F401
