"""Training pipelines: the same images and annotations through each project's transforms, as in one worker."""

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .mmlab import config_of


class Pipeline:
    """A dataset whose items are loaded one by one, in this process and on one thread.

    A subclass's `build(request)` returns the dataset.
    """

    def __init__(self, request: Mapping[str, Any]):
        import cv2

        cv2.setNumThreads(0)  # as in a worker
        torch.set_num_threads(1)
        self.dataset = self.build(request)

    def facts(self) -> dict[str, Any]:
        """Number of items, and where our files are, for the other project."""
        return {"length": len(self.dataset)}

    def build(self, request: Mapping[str, Any]) -> Any:
        """The dataset."""
        raise NotImplementedError

    def run(self, number: int, seed: int) -> float:
        """Seconds per item, of `number` random items."""
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        indices = np.random.default_rng(seed).integers(0, len(self.dataset), number)
        begun = time.perf_counter()
        for index in indices:
            self.dataset[int(index)]
        return (time.perf_counter() - begun) / number


class DensevitPipeline(Pipeline):
    """A recipe's training set."""

    def build(self, request: Mapping[str, Any]) -> Any:
        from mmengine.registry import init_default_scope

        from densevit.engine.config import read_config
        from densevit.engine.malloc import keep_freed_memory
        from densevit.registry import DATASETS

        init_default_scope("densevit")
        keep_freed_memory()  # as our data loader's workers do
        config = read_config(request["model"], dict(request["options"]), request["data_root"])
        settings = config.train_dataloader.dataset
        self.given = {key: settings.get(key) for key in ("data_root", "ann_file", "data_prefix", "type")}
        dataset = DATASETS.build(settings)
        dataset.full_init()
        self.classes = list(dataset.metainfo.get("classes") or ())
        return dataset

    def facts(self) -> dict[str, Any]:
        prefix = self.given["data_prefix"]
        return {**super().facts(), **self.given, "data_prefix": dict(prefix or {}), "classes": self.classes}


class OpenMMLabPipeline(Pipeline):
    """The training set of a configuration file, on the recipe's files."""

    package: str

    def build(self, request: Mapping[str, Any]) -> Any:
        config = config_of(self.package, request["model"])
        import importlib

        from mmengine.registry import init_default_scope

        init_default_scope(self.package)
        importlib.import_module(f"{self.package}.datasets")
        settings = config.train_dataloader.dataset
        while "dataset" in settings:  # repeated, or with several images in one
            settings = settings.dataset
        settings.data_root = request["data_root"] or ""
        settings.metainfo = dict(classes=tuple(request["classes"]))
        self.move(settings, request)
        dataset = importlib.import_module(f"{self.package}.registry").DATASETS.build(settings)
        dataset.full_init()
        return dataset

    def move(self, settings: Any, request: Mapping[str, Any]) -> None:
        """Set where the images and annotations are."""
        raise NotImplementedError


class DetectionPipeline(OpenMMLabPipeline):
    """mmdetection's."""

    package = "mmdet"

    def move(self, settings: Any, request: Mapping[str, Any]) -> None:
        settings.ann_file = request["ann_file"]
        settings.data_prefix = dict(img=request["data_prefix"].get("img", ""))


class SegmentationPipeline(OpenMMLabPipeline):
    """mmsegmentation's."""

    package = "mmseg"

    def move(self, settings: Any, request: Mapping[str, Any]) -> None:
        prefix = request["data_prefix"]
        settings.data_prefix = dict(img_path=prefix["img"], seg_map_path=prefix["seg"])
        settings.pop("metainfo")  # the file's own classes
