"""ScenesDataset: the rendered world as a data set that needs no disk."""

from collections.abc import Callable, Mapping, Sequence

import cv2
from mmengine.dataset import Compose
from torch.utils.data import Dataset, get_worker_info

from densevit.datasets.scenes.render import render
from densevit.datasets.scenes.tree import val_seed
from densevit.datasets.scenes.world import CATEGORY_IDS, OBJECT_CLASSES, SEMANTIC_CLASSES
from densevit.datasets.seeding import seeded
from densevit.errors import ConfigError
from densevit.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class ScenesDataset(Dataset):
    """Scenes rendered when they are asked for, with boxes, masks, classes of pixels and metric depth.

    An item is `dataset[i]` or, in training, `dataset[(i, epoch)]`: the scene depends on (world, i) alone, its random
    transforms on (seed, epoch, i). `metainfo` holds `classes`, `cat_ids` and `semantic_classes`.

    The pipeline begins with image and truth there (keys as in `transforms.loading`), so it loads nothing.

    Args:
        images: how many scenes there are.
        world: seed of the renderer; the validation scenes of a world (`held_out`) are of none that training uses.
        size: (height, width) in pixels.
        held_out: the world's validation scenes: those that data/make_scenes.py writes as val.
        pipeline: transforms, as configs or callables.
        with_masks: give the objects' masks too.
        test_mode: nothing is random.
        seed: first part of each item's random state; the Runner sets it.
    """

    def __init__(
        self,
        images: int,
        world: int = 0,
        size: Sequence[int] = (256, 256),
        held_out: bool = False,
        pipeline: Sequence[dict | Callable] = (),
        with_masks: bool = False,
        test_mode: bool = False,
        seed: int = 0,
    ) -> None:
        if images < 1 or world < 0 or min(size) < 64:
            raise ConfigError(
                f"ScenesDataset takes at least one image, a world from 0 on and sides of at least 64 pixels, not "
                f"images={images}, world={world}, size={tuple(size)}."
            )
        self.images, self.size, self.test_mode, self.seed = images, tuple(size), test_mode, seed
        self.with_masks = with_masks
        self.world = val_seed(world) if held_out else world
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
        scene = render(self.world, index, self.size)
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
