"""CocoDataset: images with boxes, polygons and RLE masks in COCO's instances format."""

import os
from collections.abc import Callable, Sequence

import numpy as np
from mmengine.logging import print_log

from densevit.datasets.coco_file import DOWNLOAD_HINTS, CocoFile, image_file, read_coco
from densevit.datasets.image_dataset import ImageDataset, missing_or_empty
from densevit.datasets.io.image import read_image
from densevit.errors import ConfigError, DataError, suggest
from densevit.ops.gc_paused import gc_paused
from densevit.ops.masks import usable_mask
from densevit.registry import DATASETS


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
        data_prefix: dict(img=folder of the images).
        pipeline: transforms, as configs or callables.
        test_mode: nothing is random, nothing is skipped, images without annotations always stay.
        classes: names to use, in label order; None uses all of the file's categories by rising id.
        keep_empty: keep images without annotations of the chosen classes when training.
        with_masks: hold the segmentations too.
        seed: first part of each item's random state.
        on_broken: 'error', or 'skip': another image takes a broken one's place in training.
        check_files: look for every image file before the first is read.
        indices: the first so many images, or the locations of those to use.

    Raises:
        DataError: files are missing, or the annotations cannot be used.
        ConfigError: `classes` or `on_broken` ask for what there is not.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str = "",
        data_prefix: dict | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        classes: Sequence[str] | None = None,
        keep_empty: bool = True,
        with_masks: bool = False,
        seed: int = 0,
        on_broken: str = "error",
        check_files: bool = True,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        self.classes = None if classes is None else tuple(classes)
        self.keep_empty, self.with_masks = keep_empty, with_masks
        self.given_root = os.path.expanduser(data_root)
        super().__init__(
            ann_file,
            data_root,
            dict(data_prefix or {"img": ""}),
            pipeline,
            test_mode,
            seed=seed,
            on_broken=on_broken,
            check_files=check_files,
            indices=indices,
        )

    @gc_paused()
    def load_data_list(self) -> list[dict]:
        """One dict per image: file, id, size and its instances as arrays; see `_parse_image`."""
        coco = read_coco(self.ann_file)
        cat_ids = self._choose_categories(coco)
        self._metainfo.update(classes=tuple(coco.names[i] for i in cat_ids), cat_ids=tuple(cat_ids), ann_file=coco.path)
        labels = {cat_id: label for label, cat_id in enumerate(cat_ids)}
        self._check_annotations(coco, labels)
        dropped = {"box": 0, "mask": 0}
        for image in coco.images:
            image["file_name"] = image_file(image, self.data_prefix["img"], self.given_root)
        items = [
            self._parse_image(image, coco.annotations.get(image["id"], []), labels, dropped) for image in coco.images
        ]
        if self.check_files:
            self._check_files(items)
        return self._report(items, dropped)

    def _choose_categories(self, coco: CocoFile) -> list[int]:
        """Category ids in label order."""
        if not coco.names:
            raise DataError(f"{coco.path} lists no categories: give an annotation file with at least one.")
        if self.classes is None:
            return list(coco.names)
        known = list(coco.names.values())
        for name in self.classes:
            if known.count(name) != 1 or self.classes.count(name) != 1:
                fault = "unknown" if name not in known else "given more than once"
                raise ConfigError(
                    f"Class {name!r} is {fault}{suggest(name, known) if name not in known else ''}: "
                    f"`classes` asks for {', '.join(self.classes)}; {coco.path} has {', '.join(known)}."
                )
        ids = {name: cat_id for cat_id, name in coco.names.items()}
        return [ids[name] for name in self.classes]

    def _check_annotations(self, coco: CocoFile, labels: dict[int, int]) -> None:
        annotations = [a for group in coco.annotations.values() for a in group if a["category_id"] in labels]
        if not annotations and not self.test_mode:
            chosen = "" if self.classes is None else f" of the classes {', '.join(self.classes)}"
            raise DataError(f"{coco.path} has no annotations{chosen}: there is nothing to learn from it.")
        if self.with_masks and annotations and not any(a.get("segmentation") for a in annotations):
            raise DataError(f"{coco.path} has boxes but no segmentations: train a model that needs no masks on it.")

    def _parse_image(self, image: dict, annotations: list[dict], labels: dict[int, int], dropped: dict) -> dict:
        """An image's entry; boxes (N, 4) are float32 xyxy, `ignore` (N,) marks crowds, `areas` are the file's own."""
        width, height = image["width"], image["height"]
        rows, masks, empty = [], [], True
        for annotation in annotations:
            if annotation["category_id"] not in labels:
                continue
            empty = False
            x, y, w, h = annotation["bbox"]
            inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
            if not inside or w < 1 or h < 1 or annotation["area"] <= 0 or annotation.get("ignore"):
                dropped["box"] += 1
                continue
            ignore = bool(annotation["iscrowd"])
            if self.with_masks:
                masks.append(_pack_mask(annotation.get("segmentation")))
                if masks[-1] is None:
                    dropped["mask"] += not ignore
                    ignore = True
            rows.append((x, y, x + w, y + h, labels[annotation["category_id"]], ignore, annotation["area"]))
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
        item = {
            "img_id": image["id"],
            "img_path": image["file_name"],
            "height": height,
            "width": width,
            "bboxes": table[:, :4].astype(np.float32),
            "labels": table[:, 4].astype(np.int64),
            "ignore": table[:, 5].astype(bool),
            "areas": table[:, 6].copy(),
            "empty": empty,
        }
        if self.with_masks:
            item["masks"] = masks
        return item

    def _check_files(self, items: list[dict]) -> None:
        folder = self.data_prefix["img"]
        if not os.path.isdir(folder):
            raise DataError(f"There is no image folder {os.path.abspath(folder)}: {DOWNLOAD_HINTS}.")
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
        notes = [f"{empty} images without annotations {'left out' if drop_empty else 'kept'}"] if empty else []
        if dropped["box"]:
            notes.append(f"{dropped['box']} boxes outside their image or below one pixel left out")
        if dropped["mask"]:
            notes.append(f"{dropped['mask']} objects without a usable mask are ignore regions")
        crowds = sum(int(item["ignore"].sum()) for item in items) - dropped["mask"]
        boxes = sum(len(item["bboxes"]) for item in items)
        classes = len(self._metainfo["classes"])
        notes.insert(0, f"{len(items)} images, {boxes} annotations ({crowds} crowds), {classes} classes")
        print_log(f"{self.ann_file}: {'; '.join(notes)}", logger="current")
        kept = [item for item in items if not (drop_empty and item["empty"])]
        for item in kept:
            del item["empty"]
        return kept

    def get_data_info(self, idx: int) -> dict:
        """Entry of one image, with the absolute path of its file."""
        info = super().get_data_info(idx)
        if "masks" in info:
            info["masks"] = [_unpack_mask(mask) for mask in info["masks"]]
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


def _pack_mask(segmentation: list | dict | None) -> list[bytes] | dict | None:
    """Compact form of a segmentation to hold in memory; None where it is missing or encloses nothing."""
    mask = usable_mask(segmentation)
    return [polygon.tobytes() for polygon in mask] if isinstance(mask, list) else mask


def _unpack_mask(packed: list[bytes] | dict | None) -> list[np.ndarray] | dict:
    if isinstance(packed, dict):
        return packed
    return [np.frombuffer(polygon).reshape(-1, 2) for polygon in packed or []]
