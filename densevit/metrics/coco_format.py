"""COCO's two files, checked and made ready to be scored: annotations (ground truth) and a results list (detections).

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
from densevit.ops.coco_file import CocoAnnotation, CocoFile, read_coco
from densevit.ops.coco_format import MOST_PIXELS, box_problem, identity, is_score, mask_problem, read_json, short, whole
from densevit.ops.coco_rle import first_broken
from densevit.ops.masks import encode_polygons, encode_rle
from densevit.ops.polygons import valid_polygons

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
        annotations: what `read_coco` gave for scoring, or takes.
        categories: ids of the categories to score; None means all of the file's.
        masks: whether masks are to be scored.
    """

    def __init__(
        self,
        annotations: CocoFile | Record | str | PathLike,
        categories: Sequence[int] | None = None,
        masks: bool = True,
    ) -> None:
        coco = annotations
        if not isinstance(annotations, CocoFile):
            coco = read_coco(annotations, scoring=True, masks=masks)
        self.source, self.images, self.names = coco.source, coco.images, coco.names
        scored = list(self.names) if categories is None else list(categories)
        for category in scored:
            if category not in self.names:
                raise DataError(f"category id {category!r} is not in {self.source}; it has {_some(self.names)}.")
        try:
            self.image_number = {id_: n for n, id_ in enumerate(sorted(self.images), 1)}
            self.category_number = {id_: n for n, id_ in enumerate(sorted(set(scored)), 1)}
        except TypeError:
            raise DataError(f"{self.source} mixes ids of different types; use whole numbers throughout.") from None
        self.annotations = [a for a in coco.annotations if a.category_id in self.category_number]
        if any(a.id == 0 for a in self.annotations):
            warnings.warn(
                f"{self.source} has an annotation with id 0, which pycocotools itself would never count as found; "
                "it is renumbered here and counts as any other.",
                stacklevel=2,
            )
        for annotation in self.annotations:
            annotation.segmentation = self._usable(annotation)
        packed = [a for a in self.annotations if isinstance(a.segmentation, dict)]
        for annotation, area in zip(packed, _areas([a.segmentation for a in packed]), strict=True):
            annotation.segmentation = annotation.segmentation if area else None

    def class_names(self) -> list[str]:
        """Names of the scored categories in the order of their numbers."""
        return [self.names[id_] for id_ in self.category_number]

    def dataset(self, annotations: list[Record]) -> Record:
        """A COCO dataset (numbered images, scored categories) with `annotations`, for a back end's COCO object."""
        images = [
            {"id": n, "height": self.images[id_].height or 0, "width": self.images[id_].width or 0}
            for id_, n in self.image_number.items()
        ]
        categories = [{"id": n, "name": self.names[id_]} for id_, n in self.category_number.items()]
        return {"images": images, "categories": categories, "annotations": annotations}

    def records(self, metric: str) -> list[Record]:
        """The annotations as records for `metric` 'bbox' or 'segm'.

        What has no usable mask is an ignore region for 'segm', as in training: the inside of its box.
        """
        segm = metric == "segm"
        if segm and self.annotations and not any(a.segmentation for a in self.annotations):
            raise DataError(f"{self.source} has no mask, so masks cannot be scored; use metric 'bbox'.")
        records, without = [], 0
        for number, annotation in enumerate(self.annotations, 1):
            box, area, crowd, mask = annotation.bbox, annotation.area, annotation.iscrowd, annotation.segmentation
            if not segm and box is None:
                if not mask:
                    raise DataError(f"{self._name(annotation)} {box_problem(box)} or a mask.")
                box = rle_codec.toBbox(self.rle(mask, annotation.image_id, "")).tolist()
            if segm and not mask:
                without += 1
                if box is None:
                    continue
                mask, crowd = self._inside(box, annotation), 1
            if area is None:
                area = float(rle_codec.area(self.rle(mask, annotation.image_id, ""))) if mask else box[2] * box[3]
            record = {
                "id": number,
                "image_id": self.image_number[annotation.image_id],
                "category_id": self.category_number[annotation.category_id],
                "area": area,
                "iscrowd": crowd,
            }
            if box is not None:
                record["bbox"] = [float(x) for x in box]
            if segm:
                record["segmentation"] = mask
            records.append(record)
        if without:
            print_log(f"{without} objects without a usable mask are ignore regions where masks are scored", "current")
        return records

    def _name(self, annotation: CocoAnnotation) -> str:
        return f"Annotation {short(annotation.id)} in {self.source}"

    def _usable(self, annotation: CocoAnnotation) -> list | Record | None:
        """A mask as polygons or text RLE, None where it is missing or its polygons enclose nothing.

        A polygon stays as it is: rasterizing is the back end's own work, and fast ones do it in parallel.
        """
        mask = annotation.segmentation
        if not mask or isinstance(mask, dict):
            return self.rle(mask, annotation.image_id, self._name(annotation)) if mask else None
        size = self._size(annotation)
        parts = [part for part in mask if len(part) >= 6 and len(part) % 2 == 0]
        low, high = -max(size), 2 * max(size)
        far = any(min(part) < low or max(part) > high for part in parts)
        return _text(encode_polygons(valid_polygons(parts), size)) if far else parts or None

    def _inside(self, box: list[float], annotation: CocoAnnotation) -> Record:
        """The RLE of all that lies in a box."""
        x, y, width, height = box
        outline = [x, y, x + width, y, x + width, y + height, x, y + height]
        return _text(encode_polygons(valid_polygons([outline]), self._size(annotation)))

    def _size(self, annotation: CocoAnnotation) -> list[int]:
        image = self.images[annotation.image_id]
        if not (image.height and image.width):
            raise DataError(
                f"{self._name(annotation)} needs the height and width of image {image.id!r}, which are not stated."
            )
        return [image.height, image.width]

    def rle(self, mask: Any, image_id: Any, where: str) -> Record:
        """A mask in any of COCO's three forms (polygons, counts, compressed counts) as a compressed RLE."""
        size = [self.images[image_id].height, self.images[image_id].width]
        if None in size:
            given = mask.get("size") if isinstance(mask, dict) else None
            if not isinstance(given, list | tuple) or len(given) != 2:
                raise DataError(f"{where} needs the height and width of image {image_id!r}, which are not stated.")
            size = [max(whole(side) or 0, 0) for side in given]
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
        records, masked, rles = [], [], []
        image_number, category_number = self.image_number, self.category_number
        sizes = {id_: [i.height, i.width] for id_, i in self.images.items() if i.height and i.width}
        sizes = {id_: size for id_, size in sizes.items() if size[0] * size[1] <= MOST_PIXELS}
        for index, result in enumerate(results):
            try:
                image, category, score = result["image_id"], result["category_id"], result["score"]
                if type(image) is not int or type(category) is not int:  # nearly none
                    image, category = identity(image), identity(category)
                record = {
                    "id": len(records) + 1,
                    "image_id": image_number[image],
                    "category_id": category_number[category],
                    "score": float(score),
                    "iscrowd": 0,
                }
            except (KeyError, TypeError, ValueError, OverflowError):
                self._check(result, index)
                continue  # of a category that is not scored
            if not is_score(score):
                self._check(result, index)
            box = result.get("bbox") if metric == "bbox" else None
            if box:
                if problem := box_problem(box):
                    raise DataError(f"detection {index} of the results {problem.rstrip(',')}.")
                x, y, width, height = box
                record["bbox"] = [float(x), float(y), float(width), float(height)]
                record["area"] = record["bbox"][2] * record["bbox"][3]
            elif mask := result.get("segmentation"):
                if not (
                    type(mask) is dict and type(mask.get("counts")) is str and mask.get("size") == sizes.get(image, 0)
                ):
                    mask = self.rle(mask, image, f"detection {index} of the results")  # nearly none
                rles.append(mask)
                masked.append((record, index))
            else:
                key = "bbox" if metric == "bbox" else "segmentation"
                raise DataError(f"detection {index} of the results has no '{key}', which metric '{metric}' scores.")
            records.append(record)
        if rles:
            if (broken := first_broken(rles)) is not None:
                raise DataError(
                    f"detection {masked[broken][1]} of the results has a mask whose run lengths do not add up to its "
                    f"{rles[broken]['size']} pixels."
                )
            columns = masked, rles, rle_codec.toBbox(rles).tolist(), _areas(rles)
            for (record, _), rle, box, area in zip(*columns, strict=True):
                record["area"], record["bbox"] = float(area), box
                if metric == "segm":
                    record["segmentation"] = rle
        return records

    def _check(self, result: Any, index: int) -> None:
        """DataError for a detection with a faulty image, category or score."""
        where = f"detection {index} of the results"
        if not isinstance(result, dict):
            raise DataError(f"{where} is {short(result)} where an object is expected.")
        for name in ("image_id", "category_id", "score"):
            if name not in result:
                raise DataError(f"{where} has no '{name}'.")
        image, category, score = result["image_id"], result["category_id"], result["score"]
        if identity(image) not in self.image_number:
            raise DataError(f"{where} is for image id {short(image)}, which is not in {self.source}.")
        if identity(category) not in self.names:
            raise DataError(
                f"{where} has category id {short(category)}, which is not in {self.source}; it has {_some(self.names)}."
            )
        if not is_score(score):
            raise DataError(f"{where} has the score {short(score)} where a finite number is expected.")


def _text(rle: Record) -> Record:
    """The RLE with its counts as str, the form that JSON and every back end take."""
    counts = rle["counts"]
    text = counts.decode("ascii", "replace") if isinstance(counts, bytes) else str(counts)
    return {"size": list(rle["size"]), "counts": text}


def _areas(rles: list[Record]) -> list[int]:
    """Pixels of each mask; pycocotools 2.0.11 cannot count those of more than 255 at once (numpy 2)."""
    return [area for i in range(0, len(rles), 200) for area in rle_codec.area(rles[i : i + 200]).tolist()]


def _some(ids: dict) -> str:
    """'1, 2, 3 and 77 more', for messages."""
    first = ", ".join(repr(i) for i in list(ids)[:3])
    return f"{first} and {len(ids) - 3} more" if len(ids) > 3 else first or "none"
