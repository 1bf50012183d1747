"""Changes of color; uint8 in, uint8 out."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from densevit.datasets.io.jpeg import require_pixels
from densevit.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PhotometricDistortion(BaseTransform):
    """Random brightness, contrast, saturation, hue and order of the channels, each with a chance of one half.

    Liu et al., "SSD: Single Shot MultiBox Detector" (arXiv 1512.02325), section 2.2 and its code: contrast comes before
    the colors or behind them. Brightness and contrast are applied together and colors by table, so that the image is
    rounded once or twice and not at every step. mmsegmentation's is `hue=36, swap_channels=False`: it counts a turn in
    OpenCV's steps of two degrees.

    Args:
        brightness: largest number added, 0-255.
        contrast: lowest and highest factor.
        saturation: lowest and highest factor.
        hue: largest turn in degrees.
        swap_channels: also put the channels in a random order.
    """

    def __init__(
        self,
        brightness: float = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18,
        swap_channels: bool = True,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.swap_channels = swap_channels

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        chosen = np.random.randint(2, size=6).astype(bool)
        added = np.random.uniform(-self.brightness, self.brightness) * chosen[0]
        contrast = np.random.uniform(*self.contrast) if chosen[1] else 1.0
        saturation = np.random.uniform(*self.saturation) if chosen[2] else 1.0
        turn = np.random.uniform(-self.hue, self.hue) * chosen[3]
        order = np.random.permutation(3)
        contrast_first = bool(chosen[4])

        image = results["img"]
        image = _scale_and_add(image, contrast if contrast_first else 1.0, added)
        if saturation != 1.0 or turn:
            image = _change_colors(image, saturation, turn)
        if not contrast_first:
            image = _scale_and_add(image, contrast, 0.0)
        if self.swap_channels and chosen[5]:
            image = np.ascontiguousarray(image[..., order])
        results["img"] = image
        return results


def _scale_and_add(image: np.ndarray, factor: float, added: float) -> np.ndarray:
    """(image + added) * factor, rounded and cut off at 0 and 255."""
    if factor == 1.0 and added == 0.0:
        return image
    table = np.clip(np.rint((np.arange(256) + added) * factor), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def _change_colors(image: np.ndarray, saturation: float, turn: float) -> np.ndarray:
    """Multiply the saturation and turn the hue by `turn` degrees (OpenCV's uint8 hue counts two degrees as one)."""
    values = np.arange(256)
    hue = np.rint(values + turn / 2) % 180
    table = np.stack([hue, np.clip(np.rint(values * saturation), 0, 255), values], axis=-1).astype(np.uint8)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table), cv2.COLOR_HSV2BGR)
