"""Each image passes through the network as a whole: the default of `model.inference`."""

from torch import Tensor, nn

from densevit.models.protocols import Inference, Losses
from densevit.registry import MODELS
from densevit.structures import DataSample


@MODELS.register_module()
class WholeImage(Inference):
    """One pass of the network; heads of any kind."""

    def __init__(self) -> None:
        super().__init__()

    def maps(self, model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """The dense heads' maps (B, K, h, w), at the resolution of each."""
        return model.dense_maps(images)

    def predict(
        self, model: nn.Module, images: Tensor, samples: list[DataSample], with_losses: bool = False
    ) -> tuple[list[DataSample], Losses | None]:
        """The samples with predictions, and the losses of the same features."""
        features = model.extract_features(images)
        losses = model.loss(features, samples) if with_losses else None
        return model.predict(features, samples), losses
