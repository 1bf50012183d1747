"""densevit's models, of this or another version."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import Backend, detections, randomize_weights, scale_logits


class DensevitModel(Backend):
    """A recipe's model, or the one that another project's weights file describes.

    request: also `weights`, the other project's file, None for random weights; `imported`, whether the file describes
    the model; or `settings`, our config of it, and `source`, the project whose parameter names the file has; `classes`,
    the number of a recipe's classes.
    """

    def __init__(self, request: Mapping[str, Any]):
        super().__init__(request)
        from densevit.converters import import_model, load_weights
        from densevit.engine.malloc import keep_freed_memory
        from densevit.registry import MODELS

        keep_freed_memory()  # as tools/train.py, tools/test.py and the demo do
        weights, self.saved = request.get("weights"), None
        if request.get("settings"):
            self.model = MODELS.build(request["settings"])
            load_weights(self.model, weights, request["source"])
        elif request.get("imported"):
            self.model = import_model(weights).model
        else:
            self.model = _of_recipe(request["model"], request["options"], request["classes"])
            if weights is not None:
                load_weights(self.model, weights)
        self.task = request.get("task") or _task(self.model)
        self.model = self.model.to(self.device).eval()
        if weights is None:
            randomize_weights(self.model, request["seed"])
            self._scale_logits()
            self.saved = str(Path(request["folder"]) / "random.pth")
            torch.save({"state_dict": self.model.state_dict()}, self.saved)
        if self.task == "maps":
            self.input = self.normalized().contiguous(memory_format=torch.channels_last)  # as our preprocessor gives it

    def facts(self) -> dict[str, Any]:
        return {"task": self.task, "weights": self.saved, "random_loss": self._two_stages()}

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        from densevit.engine.optim_wrapper import prefer_fused

        optimizer = super().make_optimizer(parameters)
        prefer_fused(optimizer)  # as tools/train.py does
        return optimizer

    def predict(self) -> Any:
        return self.model(self.input) if self.task == "maps" else self.model.test_step(self._data(False))

    def outputs(self) -> dict[str, np.ndarray]:
        found = self.predict()
        if self.task == "maps":
            maps = found if isinstance(found, (list, tuple)) else [found]
            return {f"map_{i}": image.float().cpu().numpy() for i, image in enumerate(maps)}
        arrays: dict[str, np.ndarray] = {}
        if self.task == "classes":
            batch = self.model.data_preprocessor(self._data(False), False)["inputs"]
            arrays["logits"] = self.model(batch, mode="tensor").float().cpu().numpy()
            return arrays | {f"pred_{i}": x.pred_semantic.cpu().numpy() for i, x in enumerate(found)}
        from densevit.ops.masks import decode_rle

        for i, sample in enumerate(found):
            objects = sample.pred_instances
            masks = [decode_rle(rle).astype(bool) for rle in objects.masks] if "masks" in objects else None
            stacked = None if masks is None else np.stack(masks) if masks else np.zeros((0, *sample.ori_shape), bool)
            arrays |= detections(objects.bboxes, objects.scores, objects.labels, stacked, i)
        return arrays

    def loss(self) -> Tensor:
        if self.task == "maps":
            found = self.model(self.input)
            return sum(x.float().square().mean() for x in (found if isinstance(found, (list, tuple)) else [found]))
        data = self.model.data_preprocessor(self._data(True), True)
        losses = self.model(**data, mode="loss")
        return self.model.parse_losses(losses)[0]

    def _data(self, training: bool) -> dict[str, list]:
        """A batch as the data loader gives it."""
        from densevit.structures import DataSample, InstanceData

        samples = []
        for i, target in enumerate(self.ground_truths()):
            size, original = target["size"], target["original"]
            factor = (size[1] / original[1], size[0] / original[0])
            meta = dict(img_id=i, img_path=None, ori_shape=original, img_shape=size, scale_factor=factor, flip=False)
            sample = DataSample(metainfo=meta)
            if training:
                sample.gt_instances = InstanceData(bboxes=target["boxes"], labels=target["labels"])
                sample.gt_instances.masks = torch.from_numpy(target["masks"]).bool()
                sample.gt_semantic = target["classes"]
                sample.gt_depth = 1.0 + target["classes"].float() % 9
            samples.append(sample)
        return {"inputs": self.images(), "data_samples": samples}

    def _two_stages(self) -> bool:
        """Whether a training step samples RoIs at random, so that losses cannot be compared."""
        return hasattr(getattr(self.model, "head", None), "roi_parts")

    def _scale_logits(self) -> None:
        modules = dict(self.model.named_modules())
        for ending, background in (("retina_cls", False), ("cls_pred", True)):
            layers = [m for name, m in modules.items() if name.endswith(ending) and self.task == "detections"]
            if layers:
                scale_logits(layers, self.predict, background, 1000 * len(self.batch["images"]), 0.05)


def _of_recipe(name: str, options: Mapping[str, Any], classes: int) -> nn.Module:
    from densevit.engine.config import read_config
    from densevit.registry import MODELS

    settings = read_config(name, dict(options)).model.to_dict()
    _drop_weights(settings)
    if "head" in settings and settings.get("classes") is None:
        settings["classes"] = [f"class {i}" for i in range(classes)]
    return MODELS.build(settings)


def _drop_weights(settings: dict) -> None:
    """Remove pretrained weights: nothing is downloaded for a measurement."""
    settings.pop("init_cfg", None)
    for value in settings.values():
        if isinstance(value, dict):
            _drop_weights(value)


def _task(model: nn.Module) -> str:
    """'detections', 'classes' (semantic segmentation), or 'maps' of a backbone alone and of models of depth."""
    if not hasattr(model, "heads"):
        return "maps"
    results = [getattr(head, "pred_key", "detections") for _, head in model.heads()]
    if results == ["pred_semantic"]:
        return "classes"
    return "maps" if results == ["pred_depth"] else "detections"
