"""COCO's two files, checked and made ready to be scored: the annotations (truth) and a results list (detections).

Whatever an evaluator would stumble over or count wrongly in silence is put right or refused here, once, so that every
back end receives the same plain records: images and categories numbered 1.. in the order of their own ids (the order
in which pycocotools breaks ties between equal scores), annotations numbered 1.. (pycocotools takes a match with
annotation id 0 for no match), a finite box, an area, and for masks a compressed RLE.
"""

import json
import math
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec

from densevit.errors import DataError
from densevit.metrics.coco_rle import first_broken

Record = dict[str, Any]

FARTHEST = 1e6  # pixels: a polygon that reaches farther is a mistake that would take hours to fill


def read_json(path: str | PathLike, what: str) -> Any:
    """The content of JSON file `path`; `what` names its role in the DataError of a missing or broken file."""
    path = Path(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # broken JSON, or bytes that are no text
        raise DataError(f"{what} {path} is not a JSON file ({error}); write it anew.") from None


def read_results(path: str | PathLike) -> list[Record]:
    """A COCO results file: a list of {image_id, category_id, bbox [x, y, w, h] and/or segmentation, score}."""
    results = read_json(path, "results file")
    if not isinstance(results, list):
        found = f"an object with the keys {sorted(results)[:5]}" if isinstance(results, dict) else repr(results)[:40]
        raise DataError(
            f"results file {path} must hold a list of detections "
            f"{{image_id, category_id, bbox or segmentation, score}}, and holds {found}."
        )
    return results


class Truth:
    """The annotations of one data set, ready for boxes or masks.

    Args:
        annotations: COCO instances as a dict, or the path of the JSON file.
        categories: ids of the categories to score; None means all of the file's.
    """

    def __init__(self, annotations: Record | str | PathLike, categories: Sequence[int] | None = None) -> None:
        self.where = "the ground truth" if isinstance(annotations, dict) else f"annotation file {annotations}"
        data = annotations if isinstance(annotations, dict) else read_json(annotations, "annotation file")
        for key in ("images", "annotations", "categories"):
            found = data.get(key, [] if key == "annotations" else None) if isinstance(data, dict) else None
            if not isinstance(found, list):
                raise DataError(f"{self.where} has no list '{key}'; COCO's instances format is expected.")
        self.images = {self._id_of(image): image for image in data["images"]}
        self.names = {self._id_of(category): str(category.get("name")) for category in data["categories"]}
        scored = list(self.names) if categories is None else list(categories)
        for category in scored:
            if category not in self.names:
                raise DataError(f"category id {category!r} is not in {self.where}; it has {_some(self.names)}.")
        try:
            self.image_number = {id_: n for n, id_ in enumerate(sorted(self.images), 1)}
            self.category_number = {id_: n for n, id_ in enumerate(sorted(set(scored)), 1)}
        except TypeError:
            raise DataError(f"{self.where} mixes ids of different types; use whole numbers throughout.") from None
        for annotation in data.get("annotations", []):
            if not isinstance(annotation, dict):
                raise DataError(f"{self.where} has an annotation that is no object: {str(annotation)[:80]}.")
        # As pycocotools does: what hangs on no listed image or on no scored category is not part of the evaluation.
        self.annotations = [
            a
            for a in data.get("annotations", [])
            if not _absent(a.get("image_id"), self.image_number)
            and not _absent(a.get("category_id"), self.category_number)
        ]
        if any(a.get("id") == 0 for a in self.annotations):
            warnings.warn(
                f"{self.where} has an annotation with id 0, which pycocotools itself would never count as found; "
                "it is numbered anew here and counts as any other.",
                stacklevel=2,
            )

    def _id_of(self, entry: Record) -> Any:
        if not isinstance(entry, dict) or isinstance(entry.get("id"), (type(None), list, dict)):
            raise DataError(f"{self.where} has an image or category without an id: {str(entry)[:80]}.")
        return entry["id"]

    def class_names(self) -> list[str]:
        """Names of the scored categories in the order of their numbers."""
        return [self.names[id_] for id_ in self.category_number]

    def dataset(self, annotations: list[Record]) -> Record:
        """A COCO dataset (numbered images, scored categories) with `annotations`, for a back end's COCO object."""
        images = [
            {"id": n, "height": self.images[id_].get("height", 0), "width": self.images[id_].get("width", 0)}
            for id_, n in self.image_number.items()
        ]
        categories = [{"id": n, "name": self.names[id_]} for id_, n in self.category_number.items()]
        return {"images": images, "categories": categories, "annotations": annotations}

    def records(self, metric: str) -> list[Record]:
        """The annotations as records for `metric` 'bbox' or 'segm'."""
        records = []
        for number, annotation in enumerate(self.annotations, 1):
            where = f"annotation {annotation.get('id')!r} in {self.where}"
            mask = annotation.get("segmentation")
            if metric == "segm" and not mask:
                raise DataError(f"{where} has no mask, so masks cannot be scored; use metric 'bbox'.")
            box = annotation.get("bbox")
            if box is None and metric == "bbox":
                box = rle_codec.toBbox(self.rle(mask, annotation["image_id"], where)).tolist()
            if box is not None and not _is_box(box):
                raise DataError(
                    f"{where} has the box {box!r} where [x, y, width, height] in finite pixels is expected."
                )
            area = annotation.get("area")
            if area is None:
                area = float(rle_codec.area(self.rle(mask, annotation["image_id"], where))) if mask else box[2] * box[3]
            if not _is_finite(area):
                raise DataError(f"{where} has the area {area!r} where a finite number is expected.")
            record = {
                "id": number,
                "image_id": self.image_number[annotation["image_id"]],
                "category_id": self.category_number[annotation["category_id"]],
                "area": area,
                "iscrowd": int(bool(annotation.get("iscrowd", 0))),
            }
            if box is not None:
                record["bbox"] = [float(x) for x in box]
            if metric == "segm":
                # A polygon stays as it is: rasterising is the back end's own work, and fast ones do it in parallel.
                if isinstance(mask, list):
                    self._size(annotation["image_id"], where)
                else:
                    mask = self.rle(mask, annotation["image_id"], where)
                    self._refuse_broken([mask], [where])
                record["segmentation"] = mask
            records.append(record)
        return records

    def _size(self, image_id: Any, where: str) -> tuple[int, int]:
        image = self.images[image_id]
        try:
            return int(image["height"]), int(image["width"])
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{where} needs the height and width of image {image_id!r}, which are not stated."
            ) from None

    def rle(self, mask: Any, image_id: Any, where: str) -> Record:
        """A mask in any of COCO's three writings (polygons, counts, compressed counts) as a compressed RLE."""
        stated = self.images[image_id]
        if type(mask) is dict and type(mask.get("counts")) is str:  # nearly all: the shortest way
            size = mask.get("size")
            same = type(size) is list and size == [stated.get("height"), stated.get("width")]
            if same and all(type(side) is int for side in size):
                return {"size": list(size), "counts": mask["counts"]}
        try:
            if isinstance(mask, list):
                if not all(len(part) >= 4 and abs(np.asarray(part, float)).max() < FARTHEST for part in mask):
                    raise ValueError("no polygon")
                return _text(rle_codec.merge(rle_codec.frPyObjects(mask, *self._size(image_id, where))))
            size = [int(x) for x in mask["size"]]
            if self.images[image_id].get("height") and tuple(size) != self._size(image_id, where):
                raise DataError(
                    f"{where} has a mask of {size} where image {image_id!r} is {list(self._size(image_id, where))} "
                    "(height, width)."
                )
            if isinstance(mask["counts"], list):
                if min(mask["counts"]) < 0 or sum(mask["counts"]) != size[0] * size[1]:
                    raise ValueError("runs that are not the image's")
                return _text(rle_codec.frPyObjects(mask, *size))
            return _text({"size": size, "counts": mask["counts"]})
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
            raise DataError(f"{where} has no mask that can be read (polygons or COCO's RLE are expected).") from None

    def detections(self, results: list[Record], metric: str) -> list[Record]:
        """A results list as records for `metric`, checked against the images and categories of this truth.

        A box is the stated one, or the box around the mask where only a mask is stated. Its area, which decides
        small, medium or large, is that of what is scored: the mask's pixels for 'segm' and for a box made from a
        mask (pycocotools' own rule for results that hold masks alone), width x height for a stated box.
        """
        key = "bbox" if metric == "bbox" else "segmentation"
        records, masked, rles = [], [], []
        for place, result in enumerate(results):
            where = f"detection {place} of the results"
            if not isinstance(result, dict):
                raise DataError(f"{where} is {str(result)[:60]!r} where an object is expected.")
            for name in ("image_id", "category_id", "score"):
                if name not in result:
                    raise DataError(f"{where} has no '{name}'.")
            image, category, score = result["image_id"], result["category_id"], result["score"]
            if _absent(image, self.image_number):
                raise DataError(f"{where} is for image id {image!r}, which is not in {self.where}.")
            if _absent(category, self.names):
                raise DataError(
                    f"{where} has category id {category!r}, which is not in {self.where}; it has {_some(self.names)}."
                )
            if not _is_finite(score):
                raise DataError(f"{where} has the score {score!r} where a finite number is expected.")
            if category not in self.category_number:
                continue
            record = {
                "id": len(records) + 1,
                "image_id": self.image_number[image],
                "category_id": self.category_number[category],
                "score": float(score),
                "iscrowd": 0,
            }
            if metric == "bbox" and result.get("bbox"):
                box = result["bbox"]
                if not _is_box(box):
                    raise DataError(
                        f"{where} has the box {box!r} where [x, y, width, height] in finite pixels is expected."
                    )
                record["bbox"] = [float(x) for x in box]
                record["area"] = record["bbox"][2] * record["bbox"][3]
            elif result.get("segmentation"):
                rles.append(self.rle(result["segmentation"], image, where))
                masked.append((record, where))
            else:
                raise DataError(f"{where} has no '{key}', which metric '{metric}' scores.")
            records.append(record)
        if rles:
            self._refuse_broken(rles, [where for _, where in masked])
            # pycocotools 2.0.11 cannot give the areas of more than 255 masks at once (numpy 2)
            areas = [area for i in range(0, len(rles), 200) for area in rle_codec.area(rles[i : i + 200]).tolist()]
            for (record, _), rle, box, area in zip(masked, rles, rle_codec.toBbox(rles).tolist(), areas, strict=True):
                record.update(area=float(area), bbox=box)
                if metric == "segm":
                    record["segmentation"] = rle
        return records

    def _refuse_broken(self, rles: list[Record], where: list[str]) -> None:
        broken = first_broken(rles)
        if broken is not None:
            raise DataError(
                f"{where[broken]} has a mask whose run lengths do not add up to its {rles[broken]['size']} pixels."
            )


def _text(rle: Record) -> Record:
    """The RLE with its counts as str, the form that JSON and every back end take."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else str(counts)}


def _absent(key: Any, table: dict) -> bool:
    try:
        return key not in table
    except TypeError:  # a list or dict where an id belongs
        return True


def _is_finite(value: Any) -> bool:
    if type(value) is float or type(value) is int:  # nearly all
        return math.isfinite(value)
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(box: Any) -> bool:
    return isinstance(box, (list, tuple, np.ndarray)) and len(box) == 4 and all(map(_is_finite, box))


def _some(ids: dict) -> str:
    """'1, 2, 3 and 77 more', for messages."""
    first = ", ".join(repr(i) for i in list(ids)[:3])
    return f"{first} and {len(ids) - 3} more" if len(ids) > 3 else first or "none"
