"""COCO's two files, checked and made ready to be scored: the annotations (ground truth) and a results list
(detections).

Whatever an evaluator would stumble over or count wrongly in silence is put right or refused here, once, so that every
back end receives the same plain records: images and categories numbered 1.. in the order of their own ids (the order
in which pycocotools breaks ties between equal scores), annotations numbered 1.. (pycocotools takes a match with
annotation id 0 for no match), a finite box, an area, and for masks a compressed RLE.
"""

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any

from mmengine.logging import print_log
from pycocotools import mask as rle_codec

from densevit.errors import DataError
from densevit.ops.coco_format import (
    FARTHEST,
    MOST_PIXELS,
    flag,
    identity,
    is_area,
    is_box,
    is_score,
    mask_problem,
    read_json,
    short,
    whole,
)
from densevit.ops.coco_rle import first_broken
from densevit.ops.masks import encode_polygons, encode_rle, valid_polygons

Record = dict[str, Any]


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


class CocoGroundTruth:
    """The annotations of one dataset, ready for boxes or masks.

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
        self.images = self._by_id(data["images"], "image")
        self.names = {id_: str(c.get("name")) for id_, c in self._by_id(data["categories"], "category").items()}
        scored = list(self.names) if categories is None else list(categories)
        for category in scored:
            if category not in self.names:
                raise DataError(f"category id {category!r} is not in {self.where}; it has {_some(self.names)}.")
        try:
            self.image_number = {id_: n for n, id_ in enumerate(sorted(self.images), 1)}
            self.category_number = {id_: n for n, id_ in enumerate(sorted(set(scored)), 1)}
        except TypeError:
            raise DataError(f"{self.where} mixes ids of different types; use whole numbers throughout.") from None
        self.annotations = []
        for annotation in data.get("annotations", []):
            if not isinstance(annotation, dict):
                raise DataError(f"{self.where} has an annotation that is no object: {short(annotation)}.")
            image, category = identity(annotation.get("image_id")), identity(annotation.get("category_id"))
            for key, value, known in (("image_id", image, self.images), ("category_id", category, self.names)):
                if value not in known:
                    raise DataError(
                        f"annotation {short(annotation.get('id'))} in {self.where} has the {key} "
                        f"{short(annotation.get(key))}, which is not among its {_some(known)}."
                    )
            if category in self.category_number:
                self.annotations.append({**annotation, "image_id": image, "category_id": category})
        if any(a.get("id") == 0 for a in self.annotations):
            warnings.warn(
                f"{self.where} has an annotation with id 0, which pycocotools itself would never count as found; "
                "it is numbered anew here and counts as any other.",
                stacklevel=2,
            )

    def _by_id(self, entries: list, what: str) -> dict[int | str, Record]:
        """Images or categories by their ids, sizes as whole numbers."""
        table = {}
        for entry in entries:
            number = identity(entry.get("id")) if isinstance(entry, dict) else None
            if number is None:
                raise DataError(f"{self.where} has an image or category without an id: {short(entry)}.")
            if number in table:
                raise DataError(f"{self.where} has two entries of {what} id {number!r}: give each an id of its own.")
            sides = {key: entry[key] for key in ("height", "width") if entry.get(key) is not None}
            if not all(whole(side) is not None and 0 <= side <= FARTHEST for side in sides.values()):
                raise DataError(f"{what} {number!r} in {self.where} has the size {short(sides)}: give whole numbers.")
            table[number] = {**entry, **{key: whole(side) for key, side in sides.items()}}
        return table

    def class_names(self) -> list[str]:
        """Names of the scored categories in the order of their numbers."""
        return [self.names[id_] for id_ in self.category_number]

    def dataset(self, annotations: list[Record]) -> Record:
        """A COCO dataset (numbered images, scored categories) with `annotations`, for a back end's COCO object."""
        images = [
            {"id": n, "height": self.images[id_].get("height") or 0, "width": self.images[id_].get("width") or 0}
            for id_, n in self.image_number.items()
        ]
        categories = [{"id": n, "name": self.names[id_]} for id_, n in self.category_number.items()]
        return {"images": images, "categories": categories, "annotations": annotations}

    def records(self, metric: str) -> list[Record]:
        """The annotations as records for `metric` 'bbox' or 'segm'.

        What has no usable mask is an ignore region for 'segm', as in training: the inside of its box.
        """
        masks = self._masks(metric)
        if metric == "segm" and self.annotations and not any(masks):
            raise DataError(f"{self.where} has no mask, so masks cannot be scored; use metric 'bbox'.")
        records, without = [], 0
        for number, (annotation, mask) in enumerate(zip(self.annotations, masks, strict=True), 1):
            box, area, crowd = annotation.get("bbox"), annotation.get("area"), flag(annotation.get("iscrowd"))
            if box is None and mask and metric == "bbox":
                box = rle_codec.toBbox(self.rle(mask, annotation["image_id"], "")).tolist()
            if not (is_box(box) or (box is None and metric == "segm")):
                raise DataError(
                    f"{self._name(annotation)} has the box {short(box)} where [x, y, width, height] in finite pixels "
                    "is expected."
                )
            if crowd is None:
                raise DataError(
                    f"{self._name(annotation)} has iscrowd {short(annotation['iscrowd'])} instead of 0 or 1."
                )
            if metric == "segm" and not mask:
                without += 1
                if box is None:
                    continue
                mask, crowd = self._inside(box, annotation), 1
            if area is None:
                area = float(rle_codec.area(self.rle(mask, annotation["image_id"], ""))) if mask else box[2] * box[3]
            if not is_area(area):
                raise DataError(
                    f"{self._name(annotation)} has the area {short(area)} where a finite number is expected."
                )
            record = {
                "id": number,
                "image_id": self.image_number[annotation["image_id"]],
                "category_id": self.category_number[annotation["category_id"]],
                "area": area,
                "iscrowd": crowd,
            }
            if box is not None:
                record["bbox"] = [float(x) for x in box]
            if metric == "segm":
                record["segmentation"] = mask
            records.append(record)
        if without:
            print_log(f"{without} objects without a usable mask are ignore regions where masks are scored", "current")
        return records

    def _name(self, annotation: Record) -> str:
        return f"annotation {short(annotation.get('id'))} in {self.where}"

    def _masks(self, metric: str) -> list[list | Record | None]:
        """Of each annotation the mask as polygons or text RLE, None where it marks no pixel or is not needed."""
        masks: list[Any] = [None] * len(self.annotations)
        for i, annotation in enumerate(self.annotations):
            mask = annotation.get("segmentation")
            needed = metric == "segm" or annotation.get("area") is None or annotation.get("bbox") is None
            if not mask or not needed:
                continue
            if not isinstance(mask, list):
                masks[i] = self.rle(mask, annotation["image_id"], self._name(annotation))
                continue
            # A polygon stays as it is: rasterizing is the back end's own work, and fast ones do it in parallel.
            size = self._size(annotation)
            problem = mask_problem(mask, size)
            if problem:
                raise DataError(f"{self._name(annotation)} has no mask that can be read: it {problem}.")
            parts = [part for part in mask if len(part) >= 6 and len(part) % 2 == 0]
            low, high = -max(size), 2 * max(size)
            far = any(min(part) < low or max(part) > high for part in parts)
            masks[i] = _text(encode_polygons(valid_polygons(parts), size)) if far else parts or None
        packed = [i for i, mask in enumerate(masks) if isinstance(mask, dict)]
        self._refuse_broken([masks[i] for i in packed], [self._name(self.annotations[i]) for i in packed])
        for i, area in zip(packed, _areas([masks[i] for i in packed]), strict=True):
            masks[i] = masks[i] if area else None
        return masks

    def _inside(self, box: list[float], annotation: Record) -> Record:
        """The RLE of all that lies in a box."""
        x, y, width, height = box
        outline = [x, y, x + width, y, x + width, y + height, x, y + height]
        return _text(encode_polygons(valid_polygons([outline]), self._size(annotation)))

    def _size(self, annotation: Record) -> list[int]:
        image = self.images[annotation["image_id"]]
        if not (image.get("height") and image.get("width")):
            raise DataError(
                f"{self._name(annotation)} needs the height and width of image {annotation['image_id']!r}, which are "
                "not stated."
            )
        return [image["height"], image["width"]]

    def rle(self, mask: Any, image_id: Any, where: str) -> Record:
        """A mask in any of COCO's three writings (polygons, counts, compressed counts) as a compressed RLE."""
        stated = self.images[image_id]
        size = [stated.get("height"), stated.get("width")]
        if type(mask) is dict and type(mask.get("counts")) is str and mask.get("size") == size and None not in size:
            if size[0] * size[1] <= MOST_PIXELS:  # nearly all: the shortest way
                return {"size": size, "counts": mask["counts"]}
        elif None in size and isinstance(mask, dict) and isinstance(mask.get("size"), list | tuple):
            size = [whole(side) or 0 for side in mask["size"]]
        elif None in size:
            raise DataError(f"{where} needs the height and width of image {image_id!r}, which are not stated.")
        problem = mask_problem(mask, size)
        if problem:
            raise DataError(f"{where} has no mask that can be read: it {problem}.")
        return _text(encode_polygons(valid_polygons(mask), size) if isinstance(mask, list) else encode_rle(mask))

    def detections(self, results: list[Record], metric: str) -> list[Record]:
        """A results list as records for `metric`, checked against the images and categories of this ground truth.

        A box is the stated one, or the box around the mask where only a mask is stated. Its area, which decides
        small, medium or large, is that of what is scored: the mask's pixels for 'segm' and for a box made from a
        mask (pycocotools' own rule for results that hold masks alone), width x height for a stated box.
        """
        key = "bbox" if metric == "bbox" else "segmentation"
        records, masked, rles = [], [], []
        for location, result in enumerate(results):
            where = f"detection {location} of the results"
            if not isinstance(result, dict):
                raise DataError(f"{where} is {short(result)} where an object is expected.")
            for name in ("image_id", "category_id", "score"):
                if name not in result:
                    raise DataError(f"{where} has no '{name}'.")
            image, category, score = result["image_id"], result["category_id"], result["score"]
            if type(image) is not int or type(category) is not int:  # nearly none
                image, category = identity(image), identity(category)
            if image not in self.image_number:
                raise DataError(f"{where} is for image id {short(result['image_id'])}, which is not in {self.where}.")
            if category not in self.names:
                raise DataError(
                    f"{where} has category id {short(result['category_id'])}, which is not in {self.where}; it has "
                    f"{_some(self.names)}."
                )
            if not is_score(score):
                raise DataError(f"{where} has the score {short(score)} where a finite number is expected.")
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
                if not is_box(box):
                    raise DataError(
                        f"{where} has the box {short(box)} where [x, y, width, height] in finite pixels is expected."
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
            columns = masked, rles, rle_codec.toBbox(rles).tolist(), _areas(rles)
            for (record, _), rle, box, area in zip(*columns, strict=True):
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
    return {
        "size": list(rle["size"]),
        "counts": counts.decode("ascii", "replace") if isinstance(counts, bytes) else str(counts),
    }


def _areas(rles: list[Record]) -> list[int]:
    """Pixels of each mask; pycocotools 2.0.11 cannot count those of more than 255 at once (numpy 2)."""
    return [area for i in range(0, len(rles), 200) for area in rle_codec.area(rles[i : i + 200]).tolist()]


def _some(ids: dict) -> str:
    """'1, 2, 3 and 77 more', for messages."""
    first = ", ".join(repr(i) for i in list(ids)[:3])
    return f"{first} and {len(ids) - 3} more" if len(ids) > 3 else first or "none"
