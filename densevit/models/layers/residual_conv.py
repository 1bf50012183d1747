"""A residual branch of convolutions that passes information between the windows of a plain vision transformer (ViTDet,
arXiv 2203.16527, section 3, "convolutional propagation").
"""

from torch import Tensor, nn

from densevit.models.layers.conv_tower import ChannelNorm


class ConvBottleneck(nn.Module):
    """x + three convolutions of x: to half the channels, 3x3, and back (names of detectron2).

    Each has a norm over the channels, the first two a GELU. The last norm starts at zero, so that the branch first
    changes nothing.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.norm1 = ChannelNorm(inner)
        self.act1 = nn.GELU()
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm2 = ChannelNorm(inner)
        self.act2 = nn.GELU()
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm3 = ChannelNorm(channels)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)  # the branch adds nothing at first

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w)."""
        branch = self.act1(self.norm1(self.conv1(x)))
        branch = self.act2(self.norm2(self.conv2(branch)))
        return x + self.norm3(self.conv3(branch))
