"""SemanticDataset: images and class maps."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from densevit.datasets.class_names import IGNORED, KNOWN
from densevit.datasets.image_dataset import spread
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.io.label_map import ClassMapReader
from densevit.datasets.paired_dataset import IMAGES, PairedDataset
from densevit.datasets.semantic_classes import semantic_classes
from densevit.errors import DataError
from densevit.registry import DATASETS


@DATASETS.register_module()
class SemanticDataset(PairedDataset):
    """A folder of images and one of class maps: ADE20K, Cityscapes, PASCAL VOC 2012, CamVid or anyone's own.

    The map of `FOLDER/NAME` + `img_suffix` is `NAME` + `seg_suffix` below the folder of maps; both may have folders
    inside. Maps are PNGs of 8 or 16 bits or with a palette (their numbers count, not their colors), or in the classes'
    colors. What a value means is stated here and nowhere else; 255 is always a pixel without a class, an undeclared
    value is an error.

    `metainfo` holds `classes` and `semantic_classes` (names), `palette` (red, green, blue of each class, or None),
    `label_values` (the value of each class in the dataset's own maps) and `ann_file` (where the maps are).

    Args:
        classes: 'ade20k', 'cityscapes' (maps `*_labelTrainIds.png`), 'cityscapes_label_ids' (maps `*_labelIds.png` as
            they are downloaded), 'voc', 'camvid'; or a class file below `data_root` or absolute: text of one name a
            line, with `R G B` behind it where there are colors, or JSON (a list of names; a list of records with
            `name`, `color` and `id`, the value; or lists `classes` and `palette`); or a list of names. Where nothing
            else is said, value 0 is the first class.
        data_root: folder that everything else is relative to.
        img_suffix: ending of the images' names; None is that of the known dataset, or of any image.
        seg_suffix: ending of the maps' names; None is that of the known dataset, or '.png'.
        reduce_zero_label: value 0 has no class and 1 is the first one, as in ADE20K's maps.
        label_map: what single values, or colors (red, green, blue), mean instead: a class by name or number, or 255.
        options: of PairedDataset and ImageDataset. `data_prefix` has the keys img and seg; `ann_file` is a text file of
            the names to use, one a line, without ending (VOC's ImageSets), and '' uses all images.

    Raises:
        DataError: folders, images or maps are missing.
        ConfigError: classes, label rule or other arguments that cannot be used.
    """

    map_key, map_name = "seg", "class map"

    def __init__(
        self,
        classes: str | Sequence[str],
        data_root: str = "",
        img_suffix: str | None = None,
        seg_suffix: str | None = None,
        reduce_zero_label: bool | None = None,
        label_map: Mapping[Any, Any] | None = None,
        **options: Any,
    ) -> None:
        self.semantic = semantic_classes(classes, os.path.expanduser(data_root), reduce_zero_label, label_map)
        self.read_map = ClassMapReader(self.semantic)
        self.reader = ("read_map", self.read_map)
        usual = (KNOWN.get(classes, {}) if isinstance(classes, str) else {}).get("suffixes", (IMAGES, ".png"))
        self.img_suffix, self.map_suffix = img_suffix or usual[0], seg_suffix or usual[1]
        super().__init__(data_root=data_root, **options)

    def load_data_list(self) -> list[dict]:
        """One dict per image: `img_id`, its name without ending, `img_path` and, where there are maps, `seg_path`."""
        names, palette = self.semantic.names, self.semantic.palette
        self._metainfo.update(
            classes=names, semantic_classes=names, palette=palette, label_values=self.semantic.label_values
        )
        return super().load_data_list()

    def require_readable(self, entry: dict) -> np.ndarray:
        """Pixels by class (256,) of one map, which belongs to an image of its size."""
        classes = self.read_map(entry["seg_path"])
        read_image(entry["img_path"], classes.shape, f"class map {entry['seg_path']} is")
        return np.bincount(classes.ravel(), minlength=256)  # (256,)

    def check_before_training(self, most: int | None = None) -> list:
        """As for every dataset, and pixels of two classes at least; prints what the maps hold. Where the maps looked
        at hold fewer, all are read until two have been seen."""
        counts = super().check_before_training(most)
        pixels, read = np.sum(counts, axis=0) if counts else np.zeros(256, np.int64), len(counts)
        for entry in spread(self, None) if read < len(self) else ():
            if self.too_few_classes(pixels, read) is None:
                break
            with contextlib.suppress(BrokenImage):
                pixels = pixels + np.bincount(self.read_map(entry["seg_path"]).ravel(), minlength=256)
        else:
            read = len(self)
        problem = self.too_few_classes(pixels, read)
        if problem:
            raise DataError(problem)
        if counts:
            unused = [name for name, count in zip(self.semantic.names, pixels, strict=False) if not count]
            share = 100 * pixels[IGNORED] / pixels.sum()
            rest = f"; no pixel is {', '.join(unused)}" if unused else ""
            print_log(f"{len(counts)} class maps read: {share:.1f} % without a class{rest}", logger="current")
        return counts

    def too_few_classes(self, pixels: np.ndarray, maps: int) -> str | None:
        """A sentence where the pixels by class (256,) of so many maps leave nothing to be learned."""
        seen = [name for name, count in zip(self.semantic.names, pixels, strict=False) if count]
        if len(seen) > 1:
            return None
        found = f"Every pixel that has a class is {seen[0]!r}" if seen else "No pixel has a class"
        return (
            f"{found} in {maps} maps of {self._metainfo['ann_file']}: there is nothing to learn; correct classes, "
            f"reduce_zero_label or label_map of the dataset ({IGNORED} in a map is a pixel without a class)."
        )
