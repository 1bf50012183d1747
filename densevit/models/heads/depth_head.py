"""What the heads of depth share: from features to meters (or to relative inverse depth), and its losses.

Shape letters: B images, C channels of the decoded map, h, w its size, N bins, H, W size of the batch.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from densevit.errors import ConfigError, suggest
from densevit.models.heads.dense_head import DenseHead
from densevit.ops.depth_crops import outside_range

KINDS = ("sigmoid", "bins", "inverse", "relative")
SMALLEST = 1e-8
"""Inverse depth below which 'inverse' does not go."""


class DepthHead(DenseHead):
    """A 1x1 convolution, `depth_pred`, on what a subclass's `decode(features)` gives, and from its output to depth.

    `metric`: whether that is meters; relative inverse depth is right up to an unknown scale and shift, and larger
    is nearer. Predicted samples have the same in their meta `depth_kind`.

    Args:
        stride: of the map that `forward` gives.
        channels: C, of the map that `decode` gives.
        kind: 'sigmoid': meters between `min_depth` and `max_depth` (Depth-Anything V2's metric models, with 0 as the
            suggest); 'bins': meters as the mean of N depths, which each image has its own of, by their probabilities
            (AdaBins, arXiv 2011.14141, without its transformer); 'inverse': meters from inverse depth, as `inverse`
            says; 'relative': inverse depth, 0 or more.
        max_depth: the largest depth of 'sigmoid' and 'bins', meters. Ground truth beyond it, such as the sky of
            rendered scenes, counts as none: in the losses, and by `depth_range` in the samples' meta in DepthMetric.
        min_depth: their smallest, likewise.
        bins: N.
        inverse: a, b of meters = 1 / (a * inverse depth + b) for 'inverse' (isl-org's NYU and KITTI models).
        non_negative: whether the inverse depth of 'relative' and 'inverse' ends in a ReLU.
        losses: config of a loss of depth, or a list of them; None: SILogLoss, ScaleShiftInvariantLoss for 'relative'.
        loss_weight: factor of them all.
        align_corners: of the bilinear resizes to the ground truth's and to the original image's size.
    """

    target_key, pred_key = "gt_depth", "pred_depth"

    def __init__(
        self,
        stride: float,
        channels: int,
        kind: str = "sigmoid",
        max_depth: float | None = None,
        min_depth: float = 0.0,
        bins: int = 64,
        inverse: tuple[float, float] | None = None,
        non_negative: bool = True,
        losses: Mapping | Sequence[Mapping] | None = None,
        loss_weight: float = 1.0,
        align_corners: bool = False,
        init_cfg: dict | None = None,
    ):
        losses = losses or dict(type="ScaleShiftInvariantLoss" if kind == "relative" else "SILogLoss")
        super().__init__(stride, losses, loss_weight, align_corners, init_cfg)
        here = type(self).__name__
        if kind not in KINDS:
            raise ConfigError(f"{here} has no kind={kind!r}{suggest(str(kind), KINDS)}: choose from {', '.join(KINDS)}")
        if kind in ("sigmoid", "bins") and not (max_depth is not None and 0 <= min_depth < max_depth):
            raise ConfigError(
                f"{here}(kind={kind!r}) tells depths from min_depth={min_depth} to max_depth={max_depth}: give it a "
                f"max_depth in meters, such as 10 indoors and 80 on roads"
            )
        if (kind == "inverse") != (inverse is not None):
            raise ConfigError(f"{here}: kind='inverse' and inverse=(a, b) of 1 / (a * x + b) belong together")
        self.kind, self.metric = kind, kind != "relative"
        self.min_depth, self.max_depth, self.inverse, self.non_negative = min_depth, max_depth, inverse, non_negative
        self.depth_pred = nn.Conv2d(channels, bins if kind == "bins" else 1, 1)
        nn.init.normal_(self.depth_pred.weight, std=0.01)
        # a ReLU that no place is above would never learn
        nn.init.constant_(self.depth_pred.bias, float(kind in ("relative", "inverse")))
        if kind == "bins":
            self.widths = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, bins))

    @property
    def metadata(self) -> dict[str, str | tuple[float, float]]:
        """Meta of the samples that it predicts."""
        kind = {"depth_kind": "metric" if self.metric else "relative"}
        return kind | {"depth_range": self.depth_range} if self.depth_range else kind

    @property
    def depth_range(self) -> tuple[float, float] | None:
        """The nearest and the farthest depth, in meters, that can be predicted; None where nothing bounds it."""
        return (self.min_depth, self.max_depth) if self.kind in ("sigmoid", "bins") else None

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns the map that is measured, (B, C, h, w)."""
        raise NotImplementedError

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """features: maps (B, C_i, h_i, w_i). Returns (B, 1, h, w): meters, or relative inverse depth; float32."""
        decoded = self.decode(features)
        x = self.depth_pred(decoded).float()
        if self.kind == "sigmoid":
            return self.min_depth + (self.max_depth - self.min_depth) * x.sigmoid()
        if self.kind == "bins":
            # (B, 1, h, w): the mean of N depths a place
            return torch.einsum("bnhw,bn->bhw", x.softmax(1), self.bin_centers(decoded))[:, None]
        x = x.relu() if self.non_negative else x
        if self.kind == "inverse":
            scale, shift = self.inverse
            return (scale * x + shift).clamp(min=SMALLEST).reciprocal()
        return x

    def bin_centers(self, decoded: Tensor) -> Tensor:
        """decoded: (B, C, h, w). Returns the depths (B, N) in meters that each image's locations choose from."""
        shares = self.widths(decoded.mean((2, 3))).float().softmax(1)  # (B, N), sum 1
        # from the widths of the bins to the middle of each
        return self.min_depth + (self.max_depth - self.min_depth) * (shares.cumsum(1) - shares / 2)

    def map_loss(self, maps: Tensor, ground_truth: Tensor) -> dict[str, Tensor]:
        """maps: (B, 1, H, W) of `forward`. ground truth: (B, H, W) meters, 0 = none."""
        if self.depth_range:
            ground_truth = ground_truth.masked_fill(outside_range(ground_truth, self.depth_range), 0)
        return super().map_loss(maps[:, 0], ground_truth)
