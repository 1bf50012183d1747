"""Maps to maps: built with `in_channels`, `in_strides`; publish `out_channels`, `out_strides`."""

from densevit.models.necks import deconv_pyramid, fpn, fusion, mla, multi_level, reassemble, simple_pyramid, upernet  # noqa: F401
