"""DPT's head of depth: isl-org, Depth-Anything and transformers."""

from densevit.converters.architecture import Architecture
from densevit.converters.key_mapping import renamed

LAYERS = ("conv1", "conv2", "depth_pred")


def _layers(*theirs: str) -> dict[str, str]:
    return dict(zip(theirs, LAYERS, strict=True))


ARCHITECTURE = Architecture(
    "DPTDepthHead",
    keys={
        "dpt": renamed(**_layers("output_conv.0", "output_conv.2", "output_conv.4")),
        "depth_anything": renamed(**_layers("output_conv1", "output_conv2.0", "output_conv2.2")),
        "transformers": renamed(
            projection="projection", **_layers("head.0", "head.2", "head.4"), **_layers("conv1", "conv2", "conv3")
        ),
    },
)
