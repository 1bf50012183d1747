"""Predictor: from an image to boxes, masks, semantic classes or depth.

from densevit import Predictor
predictor = Predictor("pvt_retinanet_coco", "checkpoint.pth")    # or a model that comes with densevit: "scenes"
found = predictor("street.jpg")
found.boxes, found.names, found.scores          # numpy, list, numpy
found.masks, found.rles, found.polygons         # numpy (N, H, W), COCO's RLEs, outlines; or None
found.semantic, found.depth                     # numpy (H, W), or None
found.depth_kind                                # "metric": depth is meters; "relative": it has no unit
PIL.Image.fromarray(found.draw()).save("street_drawn.png")
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from densevit.converters import import_model
from densevit.datasets.io.image import read_image
from densevit.datasets.transforms.test_time_augmentation import with_augmentation
from densevit.errors import ConfigError
from densevit.inference.build_model import (
    TEST_SCALE,
    build_model,
    find_device,
    inference_pipeline,
    plain_pipeline,
    read_recipe,
)
from densevit.inference.images import Image, read_rgb
from densevit.inference.prediction import Prediction
from densevit.inference.tiling import Tiles
from densevit.registry import TRANSFORMS
from densevit.structures import DataSample


class Predictor:
    """A model ready to predict.

    Args:
        config: a config file, the name of a shipped recipe, or MMEngine's Config; the name of a model that comes with
            densevit, weights and all; None where the file of weights carries mmdetection's own configuration.
        weights: a checkpoint of ours or of others (see `densevit.load_weights`), or the name of shipped weights; None
            takes the shipped model's own, or the config's `load_from`.
        device: 'cpu', 'cuda', 'cuda:1', ...; None takes a GPU where there is one.
        compile: torch.compile the model, see `DensePredictor.compile`: minutes at first, pays for many images of few
            sizes.

    Raises:
        ConfigError: the config cannot be read or lacks what is needed, the device is not there, or torch.compile has
            nothing to build code with.
        CheckpointError: the weights cannot be read, or are not this model's.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
        compile: bool = False,
    ) -> None:
        self.device = find_device(device)
        if config is None:
            if weights is None:
                raise ConfigError(
                    "Predictor needs a config and weights, or a checkpoint that carries its configuration."
                )
            found = import_model(weights)
            self.model, self.load_report, self.classes = found.model, found.load_report, found.classes
            pipeline = plain_pipeline(TEST_SCALE if found.test_size is None else found.test_size)
            self.semantic_classes = getattr(self.model, "semantic_classes", None)
            self.palette = found.palette
        else:
            config, weights = read_recipe(config, weights)
            self.model, names, self.load_report = build_model(config, weights or config.get("load_from"))
            self.classes, self.semantic_classes, self.palette = names
            pipeline = inference_pipeline(config)
        self.model.to(self.device).eval()
        if compile:
            self.model.compile()
        self.pipeline = pipeline

    def __call__(
        self,
        image: Image,
        score_thr: float | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> Prediction:
        """Find what is in one image.

        Args:
            image: a path, a file's bytes (or bytearray, memoryview), a binary file object, an image of Pillow's (its
                EXIF orientation is applied, as for a path), or an array as Pillow, imageio and matplotlib give it:
                uint8, (H, W, 3) RGB, (H, W, 4) RGBA (alpha is dropped) or (H, W) gray. cv2's arrays are BGR: turn
                them, `image[..., ::-1]`.
            score_thr: leave out what scores less; None keeps all that the model gives.
            tile: predict the image in overlapping tiles of so many pixels, each resized as a whole image would be, and
                once as a whole for objects larger than a tile; see `densevit.inference.tiling`.
            overlap: least overlap of the tiles in pixels; None a quarter of a tile.
            scales: predict the image (or tile) at these sizes, which multiply the usual one, and average what is
                predicted of each pixel; for models of maps. mmsegmentation takes (0.5, 0.75, 1, 1.25, 1.5, 1.75).
            flip: horizontal-flip TTA at each size.

        Raises:
            DataError: the image cannot be read, or the array is of another kind.
            ConfigError: no tiles of that size can be laid, or several looks cannot be averaged.
        """
        if tile is None and overlap is not None:
            raise ConfigError(f"an overlap of {overlap} pixels is one of tiles: say how large these are, too.")
        if tile is not None:
            array, path = read_rgb(image)
            return Tiles(tile, overlap).predict(
                lambda crops: self.batch(crops, score_thr, scales=scales, flip=flip),
                lambda: next(self.batch([array], score_thr)),
                array,
                path,
            )
        return next(self.batch([image], score_thr, scales=scales, flip=flip))

    def batch(
        self,
        images: Iterable[Image],
        score_thr: float | None = None,
        size: int = 8,
        scales: Sequence[float] | None = None,
        flip: bool = False,
    ) -> Iterator[Prediction]:
        """The same for many images, in their order; those of one shape among each `size` go through the model at once.

        Images of different shapes do not share a batch: padding one to the other's size would change what is found.
        """
        transforms = [TRANSFORMS.build(step) for step in with_augmentation(self.pipeline, scales, flip)]
        chunk: list[Image] = []
        for image in images:
            chunk.append(image)
            if len(chunk) == size:
                yield from self._chunk(chunk, score_thr, transforms)
                chunk = []
        yield from self._chunk(chunk, score_thr, transforms)

    def _chunk(self, images: list[Image], score_thr: float | None, transforms: Sequence[Callable]) -> list[Prediction]:
        prepared = [_prepare(image, transforms) for image in images]
        groups: dict[tuple, list[int]] = {}
        for location, (_, results) in enumerate(prepared):
            views = results["inputs"] if isinstance(results["inputs"], list) else [results["inputs"]]
            groups.setdefault(tuple(tuple(view.shape) for view in views), []).append(location)
        found: dict[int, Prediction] = {}
        for group in groups.values():
            found.update(zip(group, self._predict([prepared[location] for location in group], score_thr), strict=True))
        return [found[location] for location in range(len(images))]

    @torch.inference_mode()
    def predict_item(self, item: Mapping) -> tuple[np.ndarray, DataSample]:
        """For an item of a dataset with ground truth: the original image, uint8 BGR, and its sample with predictions
        set. What has no file, as it is rendered, is taken as the item holds it."""
        sample = self.model.test_step({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]})[0]
        image = read_image(sample.img_path) if sample.get("img_path") else item["inputs"].permute(1, 2, 0).numpy()
        return image, sample.cpu()

    def _predict(self, prepared: list[tuple[np.ndarray, dict]], score_thr: float | None) -> list[Prediction]:
        with torch.inference_mode():
            samples = self.model.test_step(pseudo_collate([results for _, results in prepared]))
        predictions = []
        for (image, _), sample in zip(prepared, samples, strict=True):
            names = {"classes": self.classes, "semantic_classes": self.semantic_classes, "palette": self.palette}
            metainfo = {"depth_kind": "metric" if "pred_depth" in sample else None, **sample.metainfo}
            prediction = Prediction(metainfo={**metainfo, **names})
            prediction.set_data({name: _ordinary(value.cpu()) for name, value in sample.items()})
            prediction.set_data({"image": image})
            if score_thr is not None and "pred_instances" in prediction:
                found = prediction.pred_instances
                prediction.pred_instances = found[found.scores >= score_thr]
            predictions.append(prediction)
        return predictions


def _prepare(image: Image, transforms: Sequence[Callable]) -> tuple[np.ndarray, dict]:
    """The image as RGB, and what the test pipeline makes of it."""
    array, path = read_rgb(image)
    results: Any = {"img": np.ascontiguousarray(array[..., ::-1]), "img_path": path}
    for transform in transforms:
        results = transform(results)
    return array, results


def _ordinary(value: Any) -> Any:
    """Tensors made in inference mode cannot be changed in place outside of it; their copies can."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, list):
        return value
    return value.new(**{name: _ordinary(inner) for name, inner in value.items()})
