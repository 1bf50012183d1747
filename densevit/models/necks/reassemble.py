"""Maps of a plain vision transformer's blocks as a pyramid, the class token merged into each (DPT, arXiv 2103.13413,
section 3): what `DPTFusion` is for.

Shape letters: B images, C channels of a block, C_i of an outgoing map, h, w size of the incoming maps.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from densevit.errors import ConfigError, suggest
from densevit.models.protocols import Neck
from densevit.ops.resize import resized_strides
from densevit.registry import MODELS

READOUTS = ("ignore", "add", "project")


@MODELS.register_module()
class DPTReassemble(BaseModule, Neck):
    """On each map the readout of the class token, a 1x1 convolution, and a learned resize by the map's own factor.

    Args:
        in_channels: channels of the incoming maps, shallow to deep. With readout 'add' or 'project' they are the
            block's own and the class token's after them, as ViT(tokens=dict(append_cls=True)) gives them.
        in_strides: their strides, all one.
        channels: of the outgoing maps, fine to coarse; the default is that of ViT-L.
        readout: the class token is left out ('ignore'; then it is not to come in), added to each location ('add'), or
            its channels are mixed with each location's by a layer with GELU, 2 C to C ('project').
        scales: factors of the maps' sizes: whole ones enlarge by a deconvolution, 1 keeps, 1/n shrinks by a 3x3
            convolution of stride n.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: Sequence[int] = (256, 512, 1024, 1024),
        readout: str = "ignore",
        scales: Sequence[float] = (4, 2, 1, 0.5),
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if readout not in READOUTS:
            raise ConfigError(
                f"DPTReassemble has no readout={readout!r}{suggest(str(readout), READOUTS)}: choose from "
                f"{', '.join(READOUTS)}"
            )
        if not len(in_channels) == len(channels) == len(scales):
            raise ConfigError(
                f"DPTReassemble has {len(channels)} channels and {len(scales)} scales, but {len(in_channels)} maps "
                f"come in: give each map one of both, or other out_indices to the backbone"
            )
        if readout != "ignore" and any(width % 2 for width in in_channels):
            raise ConfigError(
                f"DPTReassemble(readout={readout!r}) needs the class token's channels after each map's own, but the "
                f"maps have {tuple(in_channels)}: set tokens=dict(append_cls=True) in the backbone"
            )
        self.readout = readout
        widths = [width if readout == "ignore" else width // 2 for width in in_channels]
        if readout == "project":
            self.readout_projects = nn.ModuleList(
                nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.GELU()) for width in widths
            )
        self.projects = nn.ModuleList(nn.Conv2d(old, new, 1) for old, new in zip(widths, channels, strict=True))
        self.resize_layers = nn.ModuleList(_resize(width, scale) for width, scale in zip(channels, scales, strict=True))
        self.out_channels = tuple(channels)
        self.out_strides = resized_strides(in_strides, scales)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: maps (B, C or 2 C, h, w). Returns (B, C_i, ceil(scale_i * h), ceil(scale_i * w)) of each."""
        outs = []
        for i, x in enumerate(features):
            if self.readout == "project":
                x = self.readout_projects[i](x)  # (B, 2 C, h, w) -> (B, C, h, w)
            elif self.readout == "add":
                own, token = x.chunk(2, 1)  # (B, C, h, w) each: the block's channels, the class token's
                x = own + token
            outs.append(self.resize_layers[i](self.projects[i](x)))
        return tuple(outs)


def _resize(channels: int, scale: float) -> nn.Module:
    """A learned resize by `scale`."""
    if scale >= 1 and scale == int(scale):
        return nn.Identity() if scale == 1 else nn.ConvTranspose2d(channels, channels, int(scale), int(scale))
    if 0 < scale < 1 and 1 / scale == int(1 / scale):
        return nn.Conv2d(channels, channels, 3, int(1 / scale), 1)
    raise ConfigError(f"DPTReassemble cannot resize by {scale!r}: its scales are whole numbers and 1/2, 1/4, ...")
