"""ScenesDataset: rendered scenes as a dataset without files."""

from collections.abc import Callable, Mapping, Sequence

import cv2
from mmengine.dataset import Compose
from torch.utils.data import Dataset, get_worker_info

from densevit.datasets.scenes.classes import CATEGORY_IDS, OBJECT_CLASSES, SEMANTIC_CLASSES
from densevit.datasets.scenes.render import render
from densevit.datasets.scenes.writer import val_seed
from densevit.datasets.seeding import seeded
from densevit.errors import ConfigError
from densevit.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class ScenesDataset(Dataset):
    """Scenes rendered when they are asked for, with boxes, masks, semantic classes and metric depth.

    An item is `dataset[i]` or, in training, `dataset[(i, epoch)]`: the scene depends on (scene seed, i) alone, its
    random transforms on (seed, epoch, i). `metainfo` holds `classes`, `cat_ids` and `semantic_classes`.

    The pipeline begins with image and ground truth there (keys as in `transforms.loading`), so it loads nothing.

    Args:
        images: how many scenes there are.
        seed: of the renderer. The validation scenes of a seed are of none that training uses.
        size: (height, width) in pixels.
        split: 'train', or 'val': those that data/make_scenes.py writes as val.
        pipeline: transforms, as configs or callables.
        with_masks: give the objects' masks too.
        test_mode: nothing is random.
    """

    def __init__(
        self,
        images: int,
        seed: int = 0,
        size: Sequence[int] = (256, 256),
        split: str = "train",
        pipeline: Sequence[dict | Callable] = (),
        with_masks: bool = False,
        test_mode: bool = False,
    ) -> None:
        if images < 1 or seed < 0 or min(size) < 64 or split not in ("train", "val"):
            raise ConfigError(
                "ScenesDataset takes at least one image, a seed from 0 on, sides of at least 64 pixels and split "
                "train or val, not "
                f"images={images}, seed={seed}, size={tuple(size)}, split={split!r}."
            )
        self.images, self.size, self.test_mode = images, tuple(size), test_mode
        self.with_masks = with_masks
        self.scene_seed = val_seed(seed) if split == "val" else seed
        self.seed = 0
        """First part of each item's random state; the Runner sets it."""
        self.pipeline = Compose(
            [TRANSFORMS.build(dict(step)) if isinstance(step, Mapping) else step for step in pipeline]
        )
        self.metainfo = dict(classes=OBJECT_CLASSES, cat_ids=CATEGORY_IDS, semantic_classes=SEMANTIC_CLASSES)

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        index = range(self.images)[index]
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # workers are the parallelism
        with seeded(self.seed, 0 if self.test_mode else epoch, index):
            data = self.pipeline(self.scene(index))
        if data is None:
            raise ConfigError("A transform dropped a scene: leave transforms that drop images out of the pipeline.")
        return data

    def scene(self, index: int) -> dict:
        """Scene `index` before the transforms."""
        scene = render(self.scene_seed, index, self.size)
        masks = dict(gt_masks=list(scene.masks.view("uint8"))) if self.with_masks else {}
        return dict(
            img=scene.image,
            img_id=index + 1,
            img_path=None,
            ori_shape=self.size,
            img_shape=self.size,
            scale_factor=(1.0, 1.0),
            flip=False,
            gt_bboxes=scene.boxes,
            gt_labels=scene.labels,
            gt_ignore=scene.labels < 0,
            gt_semantic=scene.semantic - 1,  # ids from 1 on, all of them used; classes from 0
            gt_depth=scene.depth,
            **masks,
        )
