"""Test-time augmentation: the mean of what is predicted for several sizes and flips of an image."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from densevit.registry import MODELS
from densevit.structures import DataSample


@MODELS.register_module()
class TestTimeAugmentation:
    """Predicts each image as the mean over its augmented versions, as mmsegmentation does.

    Probabilities are averaged class by class (depth: meters), in the original image's frame, and a pixel's class is the
    one with the greatest mean. Each version is predicted by the model's own `inference`. Needs twice the memory of K
    maps of the original image, for any number of versions.
    """

    __test__ = False  # pytest takes classes of this name for tests

    def predict(
        self, model: nn.Module, inputs: Sequence[list[Tensor]], samples: Sequence[list[DataSample]]
    ) -> list[DataSample]:
        """The samples of the images themselves, with predictions.

        Args:
            inputs: images (3, h, w) uint8 of each version, as the transform of the same name packs them. The first is
                the image itself, which only gives the sample that is filled.
            samples: likewise.

        Raises:
            ConfigError: a head predicts no map.
        """
        model.require_dense_heads("the mean of several views", "look at images as they are, without scales and flip")
        means: dict[tuple[str, int], Tensor] = {}
        for version in zip(inputs[1:], samples[1:], strict=True):
            data: Mapping = model.data_preprocessor(dict(zip(("inputs", "data_samples"), version, strict=True)), False)
            images = data["inputs"]
            maps = model.inference.maps(model, images)
            for name, head in model.heads():
                for i, (x, sample) in enumerate(zip(maps[name], data["data_samples"], strict=True)):
                    scores = head.tta_scores(x, sample, images.shape[2:])
                    means[name, i] = means[name, i].add_(scores) if (name, i) in means else scores
                    del scores  # before the next one is made
        found = model.data_preprocessor.cast_data(samples[0])
        for name, head in model.heads():
            fields = [{head.pred_key: head.tta_decide(means[name, i].div_(len(inputs) - 1))} for i in range(len(found))]
            model.fill(head, found, fields)
        return found
