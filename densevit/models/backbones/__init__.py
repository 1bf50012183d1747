"""One file a family. A backbone publishes `out_channels` and `out_strides` and returns one map for each."""

from densevit.models.backbones import mvit_v2, pvt, pvt_v2, swin, swin_v2, timm_backbone, vit, vit_adapter  # noqa: F401
