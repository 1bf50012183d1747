"""What the parts of a model promise each other: the members that `DensePredictor` and the engine use, with defaults.

A part inherits its protocol, beside BaseModule: members with a default below may then be left out, all others have to
be defined. Nothing is found out by asking for attributes.

Shape letters: B images, C_i channels and s_i strides of the maps, H, W size of the network's input, K channels of a
head's map, h, w its size, H0, W0 size of an original image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from densevit.structures import DataSample

Losses = dict[str, Tensor | list[Tensor]]
"""Losses by names that begin with 'loss_'; a list is summed."""


class FeatureMaps(Protocol):
    """What gives maps, fine to coarse, and states their channels and strides."""

    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]


class Backbone(FeatureMaps, Protocol):
    """From images to maps. Any image size works: images are padded inside, and maps are cut to ceil(size / stride)."""

    num_layers: int = 0
    """How many layers `layer_of` counts; 0: the layers have no order, and layer-wise decay is refused."""
    unused_keys: frozenset[str] = frozenset()
    """Tensors that a file of weights may have and this configuration does without."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W), normalized. Returns (B, C_i, ceil(H / s_i), ceil(W / s_i)) for each map."""

    def layer_of(self, name: str) -> int:
        """The layer of a parameter: 0 what makes the tokens, num_layers + 1 what follows the last layer."""
        return 0


class Neck(FeatureMaps, Protocol):
    """From maps to maps. Its constructor takes `in_channels` and `in_strides`, which the model fills in."""

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """features: maps (B, C_i, h_i, w_i). Returns one map for each of `out_channels`."""


@runtime_checkable
class Head(Protocol):
    """From maps to losses and predictions. Its constructor takes `in_channels`, `in_strides` and, where it has classes,
    `num_classes`, which the model fills in."""

    semantic: ClassVar[bool] = False
    """Whether `num_classes` counts a dataset's semantic classes, not those of its objects."""

    def forward(self, features: Sequence[Tensor]) -> Any:
        """features: maps (B, C_i, h_i, w_i). Returns raw outputs, tensors alone: what is exported."""

    def loss(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> Losses:
        """The losses of a batch, from the `gt_*` fields of its samples."""

    def predict(self, features: Sequence[Tensor], samples: Sequence[DataSample]) -> list[dict[str, Any]]:
        """The `pred_*` fields of each sample, in the original image's frame."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Meta of the samples that this head predicts, such as `depth_kind`."""
        return {}

    @property
    def depth_range(self) -> tuple[float, float] | None:
        """Nearest and farthest depth in meters that can be predicted; None: no depth, or nothing bounds it."""
        return None

    def roi_parts(self) -> list[tuple[str, nn.Module, tuple[int, int, int], int]]:
        """Of a head of two stages the parts that read regions: name, part, shape of one region's map, and how many
        regions at most. Their work is counted by themselves."""
        return []


@runtime_checkable
class DenseHead(Head, Protocol):
    """A head of one map (B, K, h, w): what sliding windows and test-time augmentation put together."""

    target_key: str
    """Field of DataSample that it learns from."""
    pred_key: str
    """Field of DataSample that it fills."""

    def enlarge(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Maps (B, K, h, w) resized to (B, K, *size)."""

    def loss_by_feat(self, maps: Tensor, samples: Sequence[DataSample]) -> Losses:
        """The losses of maps (B, K, h, w) that cover the network's input."""

    def rescale_fields(
        self, maps: Tensor, samples: Sequence[DataSample], size: Sequence[int] | None = None
    ) -> list[dict[str, Tensor]]:
        """`pred_key` of each image from maps that cover the network's input of `size` (None: they have that size)."""

    def tta_scores(self, x: Tensor, sample: DataSample, size: Sequence[int]) -> Tensor:
        """What is averaged over the augmented versions of an image, from the map (K, h, w) of one: (K, H0, W0)."""

    def tta_decide(self, scores: Tensor) -> Tensor:
        """`pred_key` (H0, W0) from the mean (K, H0, W0) of `tta_scores`."""


class Inference(Protocol):
    """How an image passes through the network in prediction: whole, in windows, ... (`densevit.inference`)."""

    dense_heads_only: bool = False
    """Whether every head has to be a DenseHead."""

    def maps(self, model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
        """What the dense heads predict over images (B, 3, H, W): float32 (B, K, h, w) by head, of any size."""

    def predict(
        self, model: nn.Module, images: Tensor, samples: list[DataSample], with_losses: bool = False
    ) -> tuple[list[DataSample], Losses | None]:
        """The samples with the `pred_*` fields of all heads set, and the losses if `with_losses` is set."""
