"""From a list of uint8 images to one normalized batch on the model's device.

Shape letters: B images, H, W size of the batch, a multiple of the size divisor.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from densevit.errors import DataError
from densevit.registry import MODELS


@MODELS.register_module()
class Preprocessor(BaseDataPreprocessor):
    """Moves, normalizes, pads (right and below) and stacks; pads the ground truth alike.

    Args:
        mean: of R, G, B, in 0 to 255; of images of more channels as many numbers.
        std: of R, G, B.
        bgr_to_rgb: whether images come as B, G, R (as the loading transform gives them).
        size_divisor: height and width of the batch are multiples of it.
        train_size: (height, width) that a batch has at least in training: the size of the crops, which smaller images
            do not fill.
        square_pad: height and width that every batch has at least, in training and prediction (ViTDet's 1024).
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        bgr_to_rgb: bool = True,
        size_divisor: int = 32,
        train_size: Sequence[int] | None = None,
        square_pad: int = 0,
    ):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.bgr_to_rgb, self.size_divisor = bgr_to_rgb, size_divisor
        self.train_size = tuple(train_size) if train_size else (0, 0)
        self.square_pad = square_pad

    def forward(self, data: dict, training: bool = False) -> dict:
        """data: `inputs` a list of (3, h, w) uint8, `data_samples` a list of DataSample (or absent).

        Returns `inputs` (B, 3, H, W) float32, channels last in memory, 0 in the padding, and the samples with
        `pad_shape` set, their own size rounded up to the divisor, and `batch_input_shape`, (H, W).
        """
        data = self.cast_data(data)
        images, samples = data["inputs"], data.get("data_samples")
        sizes = [(self.round_up(x.shape[1]), self.round_up(x.shape[2])) for x in images]
        least = [(self.square_pad, self.square_pad), *[self.train_size] * training]
        height, width = (max(sides) for sides in zip(*sizes, *least, strict=True))
        batch = torch.zeros((len(images), len(self.mean), height, width), device=self.mean.device)
        batch = batch.contiguous(memory_format=torch.channels_last)
        for location, image in zip(batch, images, strict=True):
            if len(image) != len(self.mean):
                raise DataError(f"an image has {len(image)} channels, and this model takes {len(self.mean)}.")
            location = location[:, : image.shape[1], : image.shape[2]]  # a view: what stays 0 is the padding
            location.copy_(image.flip(0) if self.bgr_to_rgb else image)
            location.sub_(self.mean).div_(self.std)
        for sample, size in zip(samples or (), sizes, strict=False):
            sample.set_metainfo({"pad_shape": size, "batch_input_shape": (height, width)})
            self.pad_ground_truth(sample, height, width)
        return {"inputs": batch, "data_samples": samples}

    def round_up(self, side: int) -> int:
        """The next multiple of the size divisor."""
        return -(-side // self.size_divisor) * self.size_divisor

    def pad_ground_truth(self, sample, height: int, width: int) -> None:
        """Pads class map (255), depth (0) and masks (False) of one sample to the batch's size."""
        for name, value in (("gt_semantic", 255), ("gt_depth", 0)):
            if name in sample:
                sample.set_data({name: _pad(sample.get(name), height, width, value)})
        for name in ("gt_instances", "ignored_instances"):
            if name in sample and "masks" in sample.get(name):
                masks = sample.get(name).masks
                whole = isinstance(masks, Tensor)
                sample.get(name).masks = _pad(masks, height, width, False) if whole else masks.pad((height, width))


def _pad(image: Tensor, height: int, width: int, value) -> Tensor:
    """(..., h, w) -> (..., height, width), `value` to the right and below."""
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=value)
