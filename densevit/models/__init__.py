"""Everything a config's `model` can name: importing this registers it."""

from densevit.models import backbones, dense_predictor, heads, necks, preprocessor, sliding_window  # noqa: F401
from densevit.models.losses import balance, depth, pixels  # noqa: F401
