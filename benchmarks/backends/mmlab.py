"""mmdetection's and mmsegmentation's models of a config file, with random weights."""

import copy
import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import mmcv_stand_in
from .base import Backend, BackendError, detections, randomize_weights, scale_logits


def config_of(package: str, name: str) -> Any:
    """A config file of a project by its path, or by its name ('pvt/retinanet_pvt-t_fpn_1x_coco' or less).

    Raises BackendError where there is none.
    """
    mmcv_stand_in.install()
    project = importlib.import_module(package)
    from mmengine.config import Config

    folder = Path(project.__file__).parent / ".mim" / "configs"
    path = Path(name)
    if not path.is_file():
        known = {file.stem: file for file in folder.rglob("*.py")}
        path = known.get(Path(name).name.removesuffix(".py"))
        if path is None:
            close = difflib.get_close_matches(Path(name).name, known, n=1, cutoff=0.4)
            near = f" (nearest: {close[0]!r})" if close else ""
            raise BackendError(f"{package} has no configuration file {name!r}{near}: name one under {folder}")
    return Config.fromfile(str(path))


class OpenMMLab(Backend):
    """What both have in common. A subclass names `package` and creates its samples."""

    package: str

    def __init__(self, request: Mapping[str, Any]):
        super().__init__(request)
        config = config_of(self.package, request["model"])
        from mmengine.registry import init_default_scope

        init_default_scope(self.package)
        importlib.import_module(f"{self.package}.models")
        registry = importlib.import_module(f"{self.package}.registry").MODELS
        self.change(config.model)
        text = config.pretty_text
        settings = mmcv_stand_in.without_sync(copy.deepcopy(config.model))
        for part in [settings, *(value for value in settings.values() if isinstance(value, dict))]:
            part.pop("init_cfg", None)
            part.pop("pretrained", None)
        self.model = registry.build(settings).to(self.device).eval()
        mmcv_stand_in.use_torchvision(self.model)
        randomize_weights(self.model, request["seed"])
        self.prepare()
        self.saved = str(Path(request["folder"]) / f"{self.package}.pth")
        classes = tuple(f"class {i}" for i in range(self.num_classes(config.model)))
        meta = {"cfg": text, "dataset_meta": {"classes": classes}}
        torch.save({"meta": meta, "state_dict": self.model.state_dict()}, self.saved)
        self.classes = len(classes)

    def facts(self) -> dict[str, Any]:
        stages = hasattr(self.model, "roi_head")
        return {"task": self.task, "weights": self.saved, "classes": self.classes, "random_loss": stages}

    def change(self, model: Any) -> None:
        """Set the input size in the config where it states one."""

    def prepare(self) -> None:
        """Adapt random weights."""

    def num_classes(self, model: Any) -> int:
        """The number of classes in the model's configuration."""
        raise NotImplementedError

    def data(self, training: bool) -> dict[str, list]:
        """A batch as the data loader gives it."""
        raise NotImplementedError

    def predict(self) -> Any:
        return self.model.test_step(self.data(False))

    def loss(self) -> Tensor:
        data = self.model.data_preprocessor(self.data(True), True)
        losses = self.model(**data, mode="loss")
        return self.model.parse_losses(losses)[0]


class Detector(OpenMMLab):
    """mmdetection's."""

    package, task = "mmdet", "detections"

    def num_classes(self, model: Any) -> int:
        head = model.get("bbox_head") or model.roi_head.bbox_head
        return (head[0] if isinstance(head, (list, tuple)) else head).num_classes

    def prepare(self) -> None:
        modules = dict(self.model.named_modules())
        for ending, background in (("retina_cls", False), ("fc_cls", True)):
            layers = [module for name, module in modules.items() if name.endswith(ending)]
            if layers:
                scale_logits(layers, self.predict, background, 1000 * len(self.batch["images"]), 0.05)

    def data(self, training: bool) -> dict[str, list]:
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        from mmengine.structures import InstanceData

        samples = []
        for i, target in enumerate(self.ground_truths()):
            size, original = target["size"], target["original"]
            factor = (size[1] / original[1], size[0] / original[0])
            meta = dict(img_id=i, img_path=None, ori_shape=original, img_shape=size, scale_factor=factor)
            sample = DetDataSample(metainfo=meta)
            if training:
                sample.gt_instances = InstanceData(bboxes=target["boxes"], labels=target["labels"])
                sample.gt_instances.masks = BitmapMasks(target["masks"], *size)
                sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
            samples.append(sample)
        return {"inputs": self.images(), "data_samples": samples}

    def outputs(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for i, sample in enumerate(self.predict()):
            found = sample.pred_instances
            masks = found.masks.cpu().numpy().astype(bool) if "masks" in found else None
            arrays |= detections(found.bboxes, found.scores, found.labels, masks, i)
        return arrays

    def parts(self) -> list[torch.nn.Module]:
        names = ("backbone", "neck", "bbox_head", "rpn_head")
        return [part for name in names if (part := getattr(self.model, name, None)) is not None]


class Segmentor(OpenMMLab):
    """mmsegmentation's."""

    package, task = "mmseg", "classes"

    def change(self, model: Any) -> None:
        if model.get("data_preprocessor", {}).get("size") is not None:
            model.data_preprocessor.size = tuple(map(int, self.batch["size"]))

    def num_classes(self, model: Any) -> int:
        return model.decode_head.num_classes

    def data(self, training: bool) -> dict[str, list]:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        samples = []
        for target in self.ground_truths():
            size = target["size"]
            sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=target["original"], pad_shape=size))
            if training:
                sample.gt_sem_seg = PixelData(data=target["classes"][None])
            samples.append(sample)
        return {"inputs": self.images(), "data_samples": samples}

    def outputs(self) -> dict[str, np.ndarray]:
        batch = self.model.data_preprocessor(self.data(False), False)["inputs"]
        arrays = {"logits": self.model(batch, mode="tensor").float().cpu().numpy()}
        found = self.predict()
        return arrays | {f"pred_{i}": x.pred_sem_seg.data[0].cpu().numpy() for i, x in enumerate(found)}

    def parts(self) -> list[torch.nn.Module]:
        names = ("backbone", "neck", "decode_head")
        return [part for name in names if (part := getattr(self.model, name, None)) is not None]
