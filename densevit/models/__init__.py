"""Everything a config's `model` can name: importing this registers it."""

from densevit.models import backbones, dense_predictor, heads, necks, preprocessor  # noqa: F401
from densevit.models.losses import depth, multi_task, segmentation  # noqa: F401
