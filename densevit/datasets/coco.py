"""CocoDataset: images with boxes, polygons and RLE masks in COCO's instances format."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log

from densevit.datasets.image_dataset import ImageDataset, missing_or_empty, require_folder
from densevit.datasets.io.image import read_image
from densevit.errors import ConfigError, DataError, suggest
from densevit.ops.coco_file import CocoAnnotation, CocoFile, CocoImage, raise_problem, read_coco
from densevit.ops.gc_paused import gc_paused
from densevit.ops.masks import usable_mask
from densevit.ops.polygons import valid_polygons
from densevit.registry import DATASETS

DOWNLOAD_HINTS = (
    "lay the COCO tree out there as data/README.md shows, or pass another tree, for example "
    "`--data-root data/scenes` (made by `python data/make_scenes.py`)"
)


@DATASETS.register_module()
class CocoDataset(ImageDataset):
    """Images and instances from one annotation file.

    An item is `dataset[i]` or, in training, `dataset[(i, epoch)]`: its random transforms depend on (seed, epoch, i)
    alone. `metainfo` holds `classes` (names in label order), `cat_ids` (the file's category ids in the same order) and
    `ann_file`.

    As in the reference code (mmdetection 3.3) a box is left out when it lies outside its image, is less than a pixel
    wide or high, has no area, or carries `ignore`; a crowd becomes an ignore region. What was left out is counted and
    printed.

    Args:
        ann_file: the JSON file, below `data_root` unless absolute.
        data_root: folder that `ann_file` and `data_prefix` are relative to.
        classes: names to use, in label order; None uses all of the file's categories by rising id.
        keep_empty: keep images without annotations of the chosen classes when training.
        with_masks: hold the segmentations too.
        options: of ImageDataset.

    Raises:
        DataError: files are missing, or the annotations cannot be used.
        ConfigError: unknown `classes` or `on_broken`.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        classes: Sequence[str] | None = None,
        keep_empty: bool = True,
        with_masks: bool = False,
        **options: Any,
    ) -> None:
        self.classes = None if classes is None else tuple(classes)
        self.keep_empty, self.with_masks = keep_empty, with_masks
        self.given_root = os.path.expanduser(data_root)
        super().__init__(ann_file, data_root, **options)

    @gc_paused()
    def load_data_list(self) -> list[dict]:
        """One dict per image: file, id, size and its instances as arrays; see `_parse_image`."""
        coco = read_annotations(self.ann_file, masks=self.with_masks)
        cat_ids = self._choose_categories(coco)
        names = tuple(coco.names[i] for i in cat_ids)
        self._metainfo.update(classes=names, cat_ids=tuple(cat_ids), ann_file=coco.source)
        labels = {cat_id: label for label, cat_id in enumerate(cat_ids)}
        coco.annotations = [a for a in coco.annotations if a.category_id in labels]
        self._check_annotations(coco)
        dropped, groups = {"box": 0, "mask": 0}, coco.by_image()
        coco.annotations.clear()
        items = []
        for image in coco.images.values():
            path = image_file(image, self.data_prefix["img"], self.given_root)
            items.append(self._parse_image(image, path, groups.pop(image.id, []), labels, dropped))
        if self.check_files:
            self._check_files(items)
        return self._report(items, dropped)

    def _choose_categories(self, coco: CocoFile) -> list[int]:
        """Category ids in label order."""
        if not coco.names:
            raise DataError(f"{coco.source} lists no categories: give an annotation file with at least one.")
        if self.classes is None:
            return list(coco.names)
        known = list(coco.names.values())
        for name in self.classes:
            if known.count(name) != 1 or self.classes.count(name) != 1:
                fault = "unknown" if name not in known else "given more than once"
                raise ConfigError(
                    f"Class {name!r} is {fault}{suggest(name, known) if name not in known else ''}: "
                    f"`classes` asks for {', '.join(self.classes)}; {coco.source} has {', '.join(known)}."
                )
        ids = {name: cat_id for cat_id, name in coco.names.items()}
        return [ids[name] for name in self.classes]

    def _check_annotations(self, coco: CocoFile) -> None:
        if not coco.annotations and not self.test_mode:
            chosen = "" if self.classes is None else f" of the classes {', '.join(self.classes)}"
            raise DataError(f"{coco.source} has no annotations{chosen}: there is nothing to learn from it.")
        if self.with_masks and coco.annotations and not any(a.segmentation for a in coco.annotations):
            raise DataError(f"{coco.source} has boxes but no segmentations: train a model that needs no masks on it.")

    def _parse_image(
        self, image: CocoImage, path: str, annotations: list[CocoAnnotation], labels: dict[int, int], dropped: dict
    ) -> dict:
        """An image's entry; boxes (N, 4) are float32 xyxy, `ignore` (N,) marks crowds, `areas` are the file's own."""
        rows, masks = [], []
        for annotation in annotations:
            x, y, w, h = annotation.bbox
            inside = min(x + w, image.width) > max(x, 0) and min(y + h, image.height) > max(y, 0)
            if not inside or w < 1 or h < 1 or annotation.area <= 0 or annotation.ignore:
                dropped["box"] += 1
                continue
            ignore = annotation.iscrowd
            if self.with_masks:
                masks.append(_usable(annotation.segmentation))
                if masks[-1] is None:
                    dropped["mask"] += not ignore
                    ignore = True
            rows.append((x, y, x + w, y + h, labels[annotation.category_id], ignore, annotation.area))
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)  # (N, 7), also of no rows
        item = {
            "img_id": image.id,
            "img_path": path,
            "height": image.height,
            "width": image.width,
            "bboxes": table[:, :4].astype(np.float32),
            "labels": table[:, 4].astype(np.int64),
            "ignore": table[:, 5].astype(bool),
            "areas": table[:, 6].copy(),
            "empty": not annotations,
        }
        return {**item, "masks": masks} if self.with_masks else item

    def _check_files(self, items: list[dict]) -> None:
        folder = self.data_prefix["img"]
        require_folder(folder, "image folder", DOWNLOAD_HINTS)
        if self.on_broken == "skip" and not self.test_mode:
            return
        missing = missing_or_empty([os.path.join(folder, item["img_path"]) for item in items])
        if missing:
            raise DataError(
                f"{len(missing)} of {len(items)} images of {self.ann_file} are missing or empty, the first is "
                f"{os.path.abspath(missing[0])}: copy them there, or set on_broken='skip' on the dataset."
            )

    def _report(self, items: list[dict], dropped: dict) -> list[dict]:
        """Print what the file holds, and leave the empty images out where that was asked for."""
        empty = sum(item["empty"] for item in items)
        drop_empty = not self.keep_empty and not self.test_mode
        crowds = sum(int(item["ignore"].sum()) for item in items) - dropped["mask"]
        boxes, classes = sum(len(item["bboxes"]) for item in items), len(self._metainfo["classes"])
        notes = [f"{len(items)} images, {boxes} annotations ({crowds} crowds), {classes} classes"]
        if empty:
            notes.append(f"{empty} images without annotations {'left out' if drop_empty else 'kept'}")
        if dropped["box"]:
            notes.append(f"{dropped['box']} boxes outside their image or below one pixel left out")
        if dropped["mask"]:
            notes.append(f"{dropped['mask']} objects without a usable mask are ignore regions")
        print_log(f"{self.ann_file}: {'; '.join(notes)}", logger="current")
        return [item for item in items if not (item.pop("empty") and drop_empty)]

    def get_data_info(self, idx: int) -> dict:
        """Entry of one image, with the absolute path of its file."""
        info = super().get_data_info(idx)
        if "masks" in info:
            masks = info["masks"]
            info["masks"] = [mask if isinstance(mask, dict) else valid_polygons(mask or ()) for mask in masks]
        return info

    def check_before_training(self, most: int | None = None) -> list:
        """As for every dataset, and an object has to be left that is no ignore region."""
        if all(self.get_data_info(index)["ignore"].all() for index in range(len(self))):
            raise DataError(
                f"No object of {self._metainfo['ann_file']} is left to learn from: each lies outside its image, is "
                "below one pixel, a crowd, or without a mask that can be used; run tools/check_data.py on it."
            )
        return super().check_before_training(most)

    def require_readable(self, entry: dict) -> None:
        read_image(entry["img_path"], (entry["height"], entry["width"]))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in one image: what MMEngine's ClassBalancedDataset asks for."""
        return self.get_data_info(idx)["labels"].tolist()


def _usable(segmentation: tuple[bytes, ...] | dict | None) -> tuple[bytes, ...] | dict | None:
    """The polygons, as bytes, that `valid_polygons` keeps, or the RLE; None where it is missing or marks no pixel."""
    if isinstance(segmentation, dict):
        return usable_mask(segmentation)
    return tuple(p for p in segmentation or () if len(p) >= 48 and len(p) % 16 == 0) or None


def read_annotations(
    path: str | os.PathLike, on_problem: Callable[[str], None] = raise_problem, masks: bool = True
) -> CocoFile:
    """`read_coco` of a file; DataError where it is missing that names the first folder on the way to it that is."""
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(path):
        parent, missing = os.path.dirname(path), f"There is no annotation file {path}"
        while not os.path.isdir(parent):
            parent, missing = os.path.dirname(parent), f"There is no folder {parent} (looked for {path})"
        raise DataError(f"{missing}: {DOWNLOAD_HINTS}.")
    return read_coco(path, on_problem, masks=masks)


def image_file(image: CocoImage, folder: str, data_root: str) -> str:
    """Path of an image below `folder`, with slashes for Windows' back-slashes where no file is named so.

    Raises:
        DataError: it lies outside both folders, by '..' or as an absolute path.
    """
    name = image.file_name
    if "\\" in name and not os.path.exists(os.path.join(folder, name)):
        name = name.replace("\\", "/")
    if name[0] == "/" or ".." in name:
        path = os.path.normpath(os.path.join(folder, name))
        for resolve in (os.path.abspath, os.path.realpath):  # links below the folders are the user's own
            for root in filter(None, (folder, data_root)):
                if os.path.commonpath([resolve(root), resolve(path)]) == resolve(root):
                    return name
        raise DataError(
            f"Image {image.id!r} has the file_name {name}, which lies outside {os.path.abspath(folder)}: give paths "
            "below it, or set data_prefix to a folder that holds them all."
        )
    return name
