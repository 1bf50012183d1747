"""What a folder of images and labels was read as: its splits in COCO format in memory, and what was left out."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from densevit.datasets.formats.rings import ring_area
from densevit.errors import printable

OBJECTS, SEMANTIC, DEPTH = "objects", "semantic", "depth"
"""Tasks: boxes and masks; a class for each pixel; a depth for each pixel."""
SHOWN = 100
"""Classes and problems that a summary lists."""
WORDS = {OBJECTS: "boxes and masks", SEMANTIC: "class maps", DEPTH: "depth maps"}


@dataclass
class Split:
    """Images of one split.

    images: COCO's `images`; `file_name` is absolute. Where the labels are maps, `map` is that of the image's map.
    annotations: COCO's `annotations`.
    image_dir, map_dir: the folders of all images and of all maps.
    ann_file: a file in COCO format that says the same of the images below `image_dir`; '' where there is none.
    whole: False where `image_dir` holds more images.
    """

    images: list[dict] = field(default_factory=list)
    annotations: Sequence[dict] = field(default_factory=list)
    image_dir: str = ""
    map_dir: str = ""
    ann_file: str = ""
    whole: bool = True

    def statistics(self) -> tuple[Counter, int, int, int]:
        """Objects by category id, objects with a mask, crowds, and images with an object."""
        categories, masks, crowds, used = Counter(), 0, 0, set()
        for annotation in self.annotations:
            categories[annotation["category_id"]] += 1
            masks += bool(annotation.get("segmentation"))
            crowds += annotation["iscrowd"]
            used.add(annotation["image_id"])
        return categories, masks, crowds, len(used)

    def subset(self, image_ids: set) -> "Split":
        """The images of these ids and their annotations."""
        return Split(
            [image for image in self.images if image["id"] in image_ids],
            [annotation for annotation in self.annotations if annotation["image_id"] in image_ids],
            self.image_dir,
            self.map_dir,
            whole=False,
        )


@dataclass
class FolderData:
    """A folder's images and labels.

    folder, format, evidence, task: where they are, a name of FORMATS, why it was taken for that, and what the labels
    are for.
    categories: COCO's, in label order. splits: by 'train', 'val', 'test'.
    settings: arguments of the dataset class that the folder decides, such as the suffix of its maps.
    left_out: what was not used: names by kind, such as 'labels without an image'. remarks: the same of what is unusual.
    notes: how the labels were read, and warnings. problems: mistakes for which the folder is refused, a sentence each.
    """

    folder: str
    format: str
    task: str = OBJECTS
    evidence: str = ""
    categories: list[dict] = field(default_factory=list)
    splits: dict[str, Split] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._image_ids, self._annotation_ids = itertools.count(1), itertools.count(1)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(category["name"] for category in self.categories)

    @property
    def has_masks(self) -> bool:
        return any(a.get("segmentation") for split in self.splits.values() for a in split.annotations)

    def leave_out(self, kind: str, name: str) -> None:
        """Note that what is called `name` is not used."""
        self.left_out.setdefault(kind, []).append(self._below(name))

    def remark(self, kind: str, name: str) -> None:
        """Note that what is called `name` is used although it is unusual."""
        self.remarks.setdefault(kind, []).append(self._below(name))

    def _below(self, path: str) -> str:
        return os.path.relpath(path, self.folder) if os.path.isabs(path) else path

    def agreed_size(
        self, path: str, size: tuple[int, int] | None, stated: tuple[int, int] | None = None
    ) -> tuple[int, int] | None:
        """(width, height) of an image: what its labels state, where its file may be stored on its side, or else the
        file's own. None, and noted, where it cannot be read or is another image."""
        if size is None:
            self.leave_out("images that cannot be read", path)
        elif stated and sorted(stated) != sorted(size):
            self.problems.append(
                f"{path} is {size[0]}x{size[1]} pixels, but its labels are of {stated[0]}x{stated[1]} pixels"
            )
            return None
        return size and (stated or size)

    def add_image(self, split: str, path: str, size: tuple[int, int]) -> dict:
        """Add an image of (width, height) by its absolute path; returns COCO's entry."""
        image = dict(id=next(self._image_ids), file_name=path, width=int(size[0]), height=int(size[1]))
        self.splits.setdefault(split, Split()).images.append(image)
        return image

    def add_object(
        self,
        split: str,
        image: dict,
        category_id: int,
        where: str,
        box: Sequence[float] | None = None,
        polygons: Sequence[np.ndarray] = (),
        iscrowd: int = 0,
    ) -> None:
        """Add an object of an image of `add_image`.

        Args:
            where: names the object where it is left out.
            box: x, y, width, height in pixels.
            polygons: (n, 2) each, in pixels; the object has its box from them.
        """
        rings = [ring for ring in polygons if len(ring) >= 3]
        if len(rings) < len(polygons):
            self.leave_out("polygons of fewer than three points", where)
            if not rings:
                return
        annotation = dict(id=next(self._annotation_ids), image_id=image["id"], category_id=category_id)
        if rings:
            rings = [np.round(ring, 3) for ring in rings]
            low, high = np.min([r.min(0) for r in rings], 0), np.max([r.max(0) for r in rings], 0)
            box = [*low, *(high - low)]
            area = sum(ring_area(ring) for ring in rings)
            annotation["segmentation"] = [ring.ravel().tolist() for ring in rings]
        else:
            area = box[2] * box[3]
        box = [round(float(side), 3) for side in box]
        if box[2] <= 0 or box[3] <= 0 or area <= 0:
            self.leave_out("objects without an area", where)
            return
        annotation.update(bbox=box, area=round(float(area), 3), iscrowd=iscrowd)
        self.splits[split].annotations.append(annotation)

    def coco(self, split: str) -> dict:
        """A split as one object in COCO's instances format."""
        part = self.splits[split]
        return dict(images=part.images, annotations=list(part.annotations), categories=self.categories)

    def summary(self) -> str:
        """What the folder was taken for, images and objects by split and class, and what was left out, for people."""
        lines = [f"{self.folder}: {self.format}, {WORDS[self.task]} ({self.evidence}), {len(self.classes)} classes"]
        counts = {}
        for name, part in self.splits.items():
            line = f"  {name:<6}{len(part.images)} images"
            if self.task == OBJECTS:
                counts[name], masks, crowds, used = part.statistics()
                line += f" ({len(part.images) - used} without objects), {len(part.annotations)} objects"
                line += f" ({masks} with masks, {crowds} ignore regions)"
            lines.append(line)
        if self.task == OBJECTS:
            lines.append("  class: objects in " + ", ".join(counts))
            for category in self.categories[:SHOWN]:
                numbers = " ".join(str(count[category["id"]]) for count in counts.values())
                lines.append(f"    {category['name']}: {numbers}")
            if len(self.categories) > SHOWN:
                lines.append(f"    ... and {len(self.categories) - SHOWN} more")
        elif self.classes:
            lines.append(f"  classes: {', '.join(self.classes)}")
        for word, kinds in (("left out", self.left_out), ("note", self.remarks)):
            for kind, names in kinds.items():
                more = ", ..." if len(names) > 5 else ""
                lines.append(f"  {word}: {len(names)} {kind}: {', '.join(names[:5])}{more}")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  problem: {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"  ... and {len(self.problems) - SHOWN} problems more")
        return "\n".join(map(printable, lines))
