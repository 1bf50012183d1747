"""Predictor: an image in; boxes, masks, semantic classes, depth out, whatever the model predicts.

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
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from densevit.checkpoints.load_report import LoadReport
from densevit.checkpoints.reading import read_file
from densevit.checkpoints.shipped import SHIPPED, is_shipped, near, shipped
from densevit.converters import import_model, load_weights
from densevit.datasets.image_dataset import left_out_sentence
from densevit.datasets.io.image import image_endings, pillow_pixels, read_image
from densevit.datasets.transforms.test_time_augmentation import with_augmentation
from densevit.engine.config import read_config
from densevit.errors import CheckpointError, ConfigError, DataError
from densevit.inference.prediction import Prediction
from densevit.inference.tiling import merge_instances, merge_maps, tile_windows
from densevit.registry import MODELS, TRANSFORMS
from densevit.structures import DataSample

TEST_SCALE = (1333, 800)
"""COCO's customary test size (long, short side), where neither a config nor a checkpoint states one."""

Image = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | PIL.Image.Image | np.ndarray


class Predictor:
    """A model ready to look at images.

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
        self.device = _device(device)
        if config is None:
            if weights is None:
                raise ConfigError(
                    "Predictor needs a config and weights, or a checkpoint that carries its configuration."
                )
            found = import_model(weights)
            self.model, self.load_report, self.classes = found.model, found.load_report, found.classes
            pipeline = _plain_pipeline(TEST_SCALE if found.test_size is None else found.test_size)
            self.semantic_classes = getattr(self.model, "semantic_classes", None)
            self.palette = found.palette
        else:
            config, weights = _recipe(config, weights)
            self.model, names, self.load_report = _build(config, weights or config.get("load_from"))
            self.classes, self.semantic_classes, self.palette = names
            pipeline = _pipeline(config)
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
            tile: look at the image in overlapping tiles of so many pixels, each as large as the model sees an image
                otherwise, and once as a whole for what is larger than a tile; see `densevit.inference.tiling`.
            overlap: least overlap of the tiles in pixels; None a quarter of a tile.
            scales: look at the image (or tile) at so many sizes, which multiply the usual one, and average what is
                predicted of each pixel; for models of maps. mmsegmentation takes (0.5, 0.75, 1, 1.25, 1.5, 1.75).
            flip: look at each size flipped, too.

        Raises:
            DataError: the image cannot be read, or the array is of another kind.
            ConfigError: no tiles of that size can be laid, or several looks cannot be averaged.
        """
        if tile is None and overlap is not None:
            raise ConfigError(f"an overlap of {overlap} pixels is one of tiles: say how large these are, too.")
        if tile is not None:
            return self._tiled(image, score_thr, tile, overlap, scales, flip)
        return next(self.batch([image], score_thr, scales=scales, flip=flip))

    def _tiled(
        self,
        image: Image,
        score_thr: float | None,
        tile: int,
        overlap: int | None,
        scales: Sequence[float] | None,
        flip: bool,
    ) -> Prediction:
        array, path = _read(image)
        size = array.shape[:2]
        windows = tile_windows(size, tile, overlap)
        crops = (array[top:bottom, left:right] for left, top, right, bottom in windows)
        each = self.batch(crops, score_thr, scales=scales, flip=flip)
        parts = [next(each)]
        if len(windows) > 1 and parts[0].get("depth_kind") == "relative":
            raise ConfigError(
                "relative depth of tiles does not go together, as each has a scale of its own: look at the image as a "
                "whole, or take a model of metric depth."
            )
        parts += each
        meta = dict(img_path=path, ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0))
        merged = Prediction(metainfo={**parts[0].metainfo, **meta})
        merged.set_data({"image": array})
        for name in ("pred_semantic", "pred_depth"):
            if name in parts[0]:
                merged.set_data({name: merge_maps([part.get(name) for part in parts], windows, size)})
        if "pred_instances" in parts[0]:
            if len(windows) > 1:
                parts += self.batch([array], score_thr)
                windows.append((0, 0, size[1], size[0]))
            merged.pred_instances = merge_instances([part.pred_instances for part in parts], windows, size)
        return merged

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
    array, path = _read(image)
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


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {str(device)!r} is not available ({reason}); use 'cpu'.") from None
    return chosen


class Names(NamedTuple):
    """Of the classes of instances (or of the only ones), and of those of pixels where they are others; and the colors
    (red, green, blue) of these."""

    classes: Sequence[str] | None
    semantic_classes: Sequence[str] | None
    palette: Sequence[Sequence[int]] | None


def _recipe(config: Any, weights: str | os.PathLike | None) -> tuple[Config, str | os.PathLike | None]:
    """The config as read, and the weights that belong to it where it is the name of a shipped model."""
    if isinstance(config, Config):
        return config, weights
    if is_shipped(config):
        recipe, own = shipped(config) if weights is None else (SHIPPED[config].config, weights)
        return read_config(recipe), own
    try:
        return read_config(config), weights
    except ConfigError as error:
        if os.path.exists(config) or not near(config):
            raise
        raise ConfigError(f"{error} Models that come with their weights: {', '.join(SHIPPED)}{near(config)}.") from None


def _build(config: Config, weights: str | os.PathLike | None) -> tuple[nn.Module, Names, LoadReport]:
    """The config's model with `weights` in it, the class names that they were trained for, and what was loaded."""
    if not weights:
        raise CheckpointError("Predictor needs weights: give the path of a checkpoint (the config has no load_from).")
    if config.get("custom_imports"):
        from mmengine.utils import import_modules_from_strings

        import_modules_from_strings(**config.custom_imports)
    settings = config.model.to_dict() if isinstance(config.model, Config) else dict(config.model)
    content = read_file(weights)
    stored = _names_in(content)
    names = Names(*(there or settings.get(key) for key, there in stored._asdict().items()))
    settings.update({key: there for key, there in zip(names._fields[:2], names, strict=False) if there is not None})
    try:
        model = MODELS.build(settings)
    except ConfigError as error:
        if names.classes is None and "num_classes" in str(error):
            raise CheckpointError(
                f"{weights} does not state its classes, and neither does the config; give their names in the config "
                "as model.classes."
            ) from None
        raise
    return model, names, load_weights(model, content, file=str(weights))


def _names_in(checkpoint: Mapping) -> Names:
    """Class names and colors from a checkpoint's meta: ours, mmdetection 3's and mmdetection 2's way."""
    meta = checkpoint.get("meta")
    locations = [meta.get("dataset_meta"), meta] if isinstance(meta, Mapping) else []
    locations = [location for location in locations if isinstance(location, Mapping)]
    found = [
        next((tuple(location[key]) for location in locations for key in keys if location.get(key)), None)
        for keys in (("classes", "CLASSES"), ("semantic_classes",), ("palette", "PALETTE"))
    ]
    return Names(*found)


def _pipeline(config: Config) -> list[Mapping]:
    """The test dataset's transforms without those that load ground truth; loading the image stands first in any
    case."""
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if loader is None:
        return _plain_pipeline(TEST_SCALE)
    steps = [step for step in loader["dataset"]["pipeline"] if not str(step["type"]).startswith("Load")]
    loading = [step for step in loader["dataset"]["pipeline"] if step["type"] == "LoadImage"]
    return [*(loading or [dict(type="LoadImage")]), *steps]


def _plain_pipeline(scale: tuple[int, ...] | Mapping[str, Any]) -> list[Mapping]:
    """Load, resize within `scale` (() leaves the size as it is; or arguments of Resize), pack."""
    arguments = scale if isinstance(scale, Mapping) else dict(scale=scale, keep_ratio=True)
    resize = [dict(type="Resize", **arguments)] if scale else []
    return [dict(type="LoadImage"), *resize, dict(type="PackSample")]


def _read(image: Image) -> tuple[np.ndarray, str | None]:
    """(H, W, 3) uint8 RGB, and the path of what has one."""
    path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
    if path is not None or isinstance(image, bytes | bytearray | memoryview) or hasattr(image, "read"):
        array = read_image(image)[..., ::-1]
    else:
        array = pillow_pixels(image, "The image") if isinstance(image, PIL.Image.Image) else _as_rgb(image)
    return np.ascontiguousarray(array), path


def _as_rgb(image: Any) -> np.ndarray:
    """An array as (H, W, 3) uint8 RGB."""
    if image is None:
        raise DataError("None is no image: cv2.imread gives it of a file that is missing or cannot be read.")
    try:
        array = np.asarray(image)
    except Exception as error:  # a tensor on a GPU or with a gradient, lists of several lengths
        said = str(error).partition("\n")[0]
        raise DataError(f"{type(image).__name__} cannot be taken as an image ({said}): give a numpy array.") from None
    if array.dtype != np.uint8:
        raise DataError(f"an image as an array must be uint8 (0 to 255), not {array.dtype}; convert it first.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        hint = ": transpose it, channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise DataError(
            "an image as an array must be (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) gray, not of shape "
            f"{array.shape}{hint}."
        )
    return array[..., :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)


def images_under(source: str) -> list[Path]:
    """Image files that `source` stands for: a file, a folder (its images, not those of folders below) or a glob.

    Raises:
        DataError: nothing is there.
    """
    import glob

    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        endings = image_endings()
        found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in endings)
        kind = "folder with images"
    else:
        found = sorted(Path(p) for p in glob.glob(source, recursive=True) if os.path.isfile(p))
        kind = "image, folder or pattern that fits a file"
    if not found:
        raise DataError(f"{source} is no {kind}; check the path.")
    return found


def left_out(source: str, images: Sequence[Path]) -> str:
    """A sentence on the files of a folder that are not among its `images`; '' where there are none."""
    path = Path(source)
    there = path.iterdir() if path.is_dir() else ()
    others = {p.name for p in there if p.is_file() and not p.name.startswith(".")}
    return left_out_sentence(path, others - {image.name for image in images})
