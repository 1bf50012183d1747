"""Predictor: an image in, a sample with boxes, names and scores out.

from densevit import Predictor
predictor = Predictor("pvt_retinanet_coco", "checkpoint.pth")
found = predictor("street.jpg")
found.boxes, found.names, found.scores          # numpy, list, numpy
PIL.Image.fromarray(found.draw()).save("street_boxes.png")
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from densevit.checkpoints import Receipt, import_model, load_weights
from densevit.checkpoints.reading import read_file
from densevit.datasets.transforms.loading import read_image
from densevit.engine.config import read_config
from densevit.errors import CheckpointError, ConfigError, DataError
from densevit.registry import MODELS, TRANSFORMS
from densevit.structures import DataSample
from densevit.visualization import draw_instances, enlarged

TEST_SCALE = (1333, 800)
"""COCO's customary test size (long, short side), where neither a config nor a checkpoint states one."""

Image = str | os.PathLike | bytes | np.ndarray


class Prediction(DataSample):
    """What was found in one image, in that image's own pixels, best score first.

    Beside DataSample's fields: `image`, the image itself, (H, W, 3) uint8 RGB, and `classes` in the meta information.
    """

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32: left, top, right, bottom in pixels."""
        return self.pred_instances.bboxes.cpu().numpy()

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64: class numbers from 0."""
        return self.pred_instances.labels.cpu().numpy()

    @property
    def scores(self) -> np.ndarray:
        """(N,) float32 in 0 to 1."""
        return self.pred_instances.scores.cpu().numpy()

    @property
    def names(self) -> list[str]:
        """N class names."""
        return [_class_name(self.get("classes"), label) for label in self.labels.tolist()]

    def draw(self, score_thr: float = 0.3, least_side: int = 0) -> np.ndarray:
        """The image with boxes, names and scores: a new (H, W, 3) uint8 RGB array.

        Args:
            score_thr: what scores less is not drawn.
            least_side: enlarge a thumbnail by a whole factor until its longer side has so many pixels, so that
                names can be read on it; 0 keeps the size.
        """
        sure = self.scores >= score_thr
        picture, factor = enlarged(self.image[..., ::-1], least_side)
        boxes = self.boxes[sure] * factor
        drawn = draw_instances(picture, boxes, self.labels[sure], self.scores[sure], self.get("classes"))
        return np.ascontiguousarray(drawn[..., ::-1])

    def to_json(self, score_thr: float = 0.0) -> dict[str, Any]:
        """Plain numbers and text: the image's path and size, and per object name, label, score, `box` (left, top,
        right, bottom) and COCO's `bbox` (left, top, width, height) in pixels of the image."""
        height, width = self.image.shape[:2]
        objects = [
            {
                "name": name,
                "label": label,
                "score": score,
                "box": box,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            }
            for name, label, score, box in zip(
                self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
            if score >= score_thr
        ]
        return {"image": self.get("img_path"), "width": width, "height": height, "objects": objects}


class Predictor:
    """A model ready to look at images.

    Args:
        config: a config file, the name of a shipped recipe, or MMEngine's Config; None where the file of weights
            carries mmdetection's own configuration.
        weights: a checkpoint of ours or of others (see `densevit.load_weights`); None takes the config's `load_from`.
        device: 'cpu', 'cuda', 'cuda:1', ...; None takes a GPU where there is one.

    Raises:
        ConfigError: the config cannot be read or lacks what is needed, or the device is not there.
        CheckpointError: the weights cannot be read, or are not this model's.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config | None = None,
        weights: str | os.PathLike | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = _device(device)
        if config is None:
            if weights is None:
                raise ConfigError(
                    "Predictor needs a config and weights, or a checkpoint that carries its configuration."
                )
            self.model = import_model(weights)
            self.receipt = self.model.receipt
            self.classes = self.model.classes
            pipeline = _plain_pipeline(self.model.test_scale or TEST_SCALE)
        else:
            if not isinstance(config, Config):
                config = read_config(config)
            self.model, self.classes, self.receipt = _build(config, weights or config.get("load_from"))
            pipeline = _pipeline(config)
        self.model.to(self.device).eval()
        self.transforms: list[Callable] = [TRANSFORMS.build(dict(step)) for step in pipeline]

    def __call__(self, image: Image, score_thr: float | None = None) -> Prediction:
        """Find what is in one image.

        Args:
            image: a path, a file's bytes, or an array as Pillow, imageio and matplotlib give it: uint8, (H, W, 3) RGB,
                (H, W, 4) RGBA (alpha is dropped) or (H, W) grey. cv2's arrays are BGR: turn them, `image[..., ::-1]`.
            score_thr: leave out what scores less; None keeps all that the model gives.

        Raises:
            DataError: the image cannot be read, or the array is of another kind.
        """
        return next(self.batch([image], score_thr))

    def batch(self, images: Iterable[Image], score_thr: float | None = None, size: int = 8) -> Iterator[Prediction]:
        """The same for many images, in their order; those of one shape among each `size` go through the model at once.

        Images of different shapes do not share a batch: padding one to the other's size would change what is found.
        """
        chunk: list[Image] = []
        for image in images:
            chunk.append(image)
            if len(chunk) == size:
                yield from self._chunk(chunk, score_thr)
                chunk = []
        yield from self._chunk(chunk, score_thr)

    def _chunk(self, images: list[Image], score_thr: float | None) -> list[Prediction]:
        prepared = [self._prepare(image) for image in images]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, (_, results) in enumerate(prepared):
            groups.setdefault(tuple(results["inputs"].shape), []).append(place)
        found: dict[int, Prediction] = {}
        for group in groups.values():
            found.update(zip(group, self._predict([prepared[place] for place in group], score_thr), strict=True))
        return [found[place] for place in range(len(images))]

    @torch.inference_mode()
    def beside_truth(self, item: Mapping) -> tuple[np.ndarray, DataSample]:
        """For an item of a data set with truth: the original image, uint8 BGR, and its sample with predictions set."""
        sample = self.model.test_step({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]})[0]
        return read_image(sample.img_path), sample.cpu()

    def _prepare(self, image: Image) -> tuple[np.ndarray, dict]:
        """The image as RGB, and what the test pipeline makes of it."""
        path = None
        if isinstance(image, (str, os.PathLike)):
            path = os.fspath(image)
        array = read_image(image)[..., ::-1] if path or isinstance(image, bytes) else _as_rgb(image)
        results: Any = {"img": np.ascontiguousarray(array[..., ::-1]), "img_path": path}
        for transform in self.transforms:
            results = transform(results)
        return np.ascontiguousarray(array), results

    def _predict(self, prepared: list[tuple[np.ndarray, dict]], score_thr: float | None) -> list[Prediction]:
        packed = [results for _, results in prepared]
        with torch.inference_mode():
            samples = self.model.test_step({key: [p[key] for p in packed] for key in ("inputs", "data_samples")})
        predictions = []
        for (image, _), sample in zip(prepared, samples, strict=True):
            prediction = Prediction(metainfo={**sample.metainfo, "classes": self.classes})
            prediction.set_data({name: _ordinary(value.cpu()) for name, value in sample.items()})
            prediction.set_data({"image": image})
            if score_thr is not None and "pred_instances" in prediction:
                found = prediction.pred_instances
                prediction.pred_instances = found[found.scores >= score_thr]
            predictions.append(prediction)
        return predictions


def _ordinary(value: Any) -> Any:
    """Tensors made in inference mode cannot be changed in place outside of it; their copies can."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.new(**{name: _ordinary(inner) for name, inner in value.items()})


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {str(device)!r} is not to be had here ({reason}); use 'cpu'.") from None
    return chosen


def _build(config: Config, weights: str | os.PathLike | None) -> tuple[nn.Module, Sequence[str] | None, Receipt]:
    """The config's model with `weights` in it, the class names that they were trained for, and what was loaded."""
    if not weights:
        raise CheckpointError("Predictor needs weights: give the path of a checkpoint (the config has no load_from).")
    if config.get("custom_imports"):
        from mmengine.utils import import_modules_from_strings

        import_modules_from_strings(**config.custom_imports)
    settings = config.model.to_dict() if isinstance(config.model, Config) else dict(config.model)
    content = read_file(weights)
    classes = _classes_in(content) or settings.get("classes")
    if classes is not None:
        settings["classes"] = classes
    try:
        model = MODELS.build(settings)
    except ConfigError as error:
        if classes is None and "num_classes" in str(error):
            raise CheckpointError(
                f"{weights} does not state its classes, and neither does the config; give their names in the config "
                "as model.classes."
            ) from None
        raise
    return model, classes, load_weights(model, content, file=str(weights))


def _classes_in(checkpoint: Mapping) -> tuple[str, ...] | None:
    """Class names from a checkpoint's meta: ours, mmdetection 3's and mmdetection 2's way."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return None
    for place in (meta.get("dataset_meta"), meta):
        if isinstance(place, Mapping):
            names = place.get("classes") or place.get("CLASSES")
            if names:
                return tuple(names)
    return None


def _pipeline(config: Config) -> list[Mapping]:
    """The test data set's transforms without those that load truth."""
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if loader is None:
        return _plain_pipeline(TEST_SCALE)
    steps = loader["dataset"]["pipeline"]
    return [step for step in steps if step["type"] == "LoadImage" or not str(step["type"]).startswith("Load")]


def _plain_pipeline(scale: tuple[int, int]) -> list[Mapping]:
    """Load, resize within `scale`, pack."""
    return [dict(type="LoadImage"), dict(type="Resize", scale=scale, keep_ratio=True), dict(type="PackSample")]


def _as_rgb(image: Any) -> np.ndarray:
    """An array, or a Pillow image, as (H, W, 3) uint8 RGB."""
    if hasattr(image, "convert"):
        image = image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise DataError(f"an image as an array must be uint8 (0 to 255), not {array.dtype}; convert it first.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"an image as an array must be (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey, not of shape {array.shape}."
        )
    return array[..., :3]


def _class_name(classes: Sequence[str] | None, label: int) -> str:
    return classes[label] if classes and label < len(classes) else f"#{label}"


def images_under(source: str) -> list[Path]:
    """Image files that `source` stands for: a file, a folder (its images, not those of folders below) or a glob.

    Raises:
        DataError: nothing is there.
    """
    import glob

    path = Path(source)
    if path.is_file():
        return [path]
    suffixes = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in suffixes)
        kind = "folder with images"
    else:
        found = sorted(Path(p) for p in glob.glob(source, recursive=True) if os.path.isfile(p))
        kind = "image, folder or pattern that fits a file"
    if not found:
        raise DataError(f"{source} is no {kind}; check the path.")
    return found
