"""Maps to maps: built with `in_channels`, `in_strides`; publish `out_channels`, `out_strides`."""

from densevit.models.necks import (  # noqa: F401
    feature2pyramid,
    fpn,
    fusion,
    mla,
    multi_level,
    reassemble,
    simple_feature_pyramid,
    upernet,
)
