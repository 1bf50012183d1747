"""DepthDataset: images and depth maps."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.logging import print_log

from densevit.datasets.io.depth import DepthReader
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.datasets.paired_dataset import IMAGES, PairedDataset, lines_of
from densevit.errors import ConfigError, DataError, suggest
from densevit.registry import DATASETS

SCALES = {"nyu": 1000.0, "kitti": 256.0, "tum": 5000.0, "scenes": 1000.0}
"""What stands for one meter in the 16-bit maps of well-known datasets."""
NEAREST = 0.1
"""Meters: where no pixel of any map is farther away, the unit is another one."""


@DATASETS.register_module()
class DepthDataset(PairedDataset):
    """A folder of images and one of depth maps: NYU Depth V2, KITTI, TUM RGB-D or anyone's own.

    The map of `FOLDER/NAME` + `img_suffix` is `NAME` + `depth_suffix` below the folder of maps; or `ann_file` lists the
    pairs. `metainfo` holds `ann_file` (the list, or where the maps are) and `depth_scale`.

    Maps are 16-bit PNG, NPY or EXR files (a channel Z, Y or R, without compression or with ZIP); meters = number
    / depth_scale, and 0, NaN, infinity and what is below 0 are holes, which training and metrics ignore.

    Args:
        depth_scale: the number that stands for one meter, such as 1000 for millimeters, or the name of a dataset:
            'nyu' (1000), 'kitti' (256), 'tum' (5000), 'scenes' (1000). NPY and EXR files may leave it out, which
            means meters.
        data_prefix: dict(img=folder of the images, depth=folder of the maps).
        img_suffix: ending of the images' names; None: any image.
        depth_suffix: ending of the maps' names.
        max_depth: meters; a depth beyond it is a hole. None: a depth beyond 1000 means that depth_scale is wrong, and
            is an error.
        options: of ImageDataset. `ann_file` is a text file of what to use, one image a line: its name, with or without
            ending, or the paths of image and map below their folders (BTS's lists of NYU and KITTI: what follows, a
            focal length, is not needed, and a pair whose map is 'None' is left out); '' uses all images.

    Raises:
        DataError: folders, images or maps are missing.
        ConfigError: arguments that cannot be used, such as PNG maps without a unit.
    """

    map_key, map_name = "depth", "depth map"

    def __init__(
        self,
        depth_scale: float | str | None = None,
        data_prefix: Mapping[str, str] | None = None,
        img_suffix: str | None = None,
        depth_suffix: str = ".png",
        max_depth: float | None = None,
        **options: Any,
    ) -> None:
        has_maps = (data_prefix or {}).get("depth") is not None
        scale = _scale(depth_scale, depth_suffix) if has_maps or depth_scale is not None else None
        self.read_depth = DepthReader(scale or 1.0, max_depth)
        # for what writes predictions as the dataset stores ground truth, which a test set may come without
        self._stored_scale = scale if depth_scale is not None and depth_suffix.lower() == ".png" else None
        self.reader = ("read_depth", self.read_depth)
        self.img_suffix, self.map_suffix = img_suffix or IMAGES, depth_suffix
        super().__init__(data_prefix, **options)

    def load_data_list(self) -> list[dict]:
        """One dict per image: `img_id`, its name without ending, `img_path` and, where there are maps, `depth_path`."""
        self._metainfo["depth_scale"] = self._stored_scale
        if self.ann_file:
            self._metainfo["ann_file"] = os.path.abspath(self.ann_file)
        return super().load_data_list()

    def find_items(self) -> list[dict]:
        """The pairs that a list states, or images and maps of one name."""
        pairs = lines_of(self.ann_file) if self.ann_file else []
        return self._listed_pairs(pairs) if pairs and len(pairs[0].split()) > 1 else super().find_items()

    def _listed_pairs(self, lines: list[str]) -> list[dict]:
        """Images and maps as a list pairs them."""
        items, without = [], 0
        for number, line in enumerate(lines, 1):
            image, *rest = line.split()
            if not rest:
                raise DataError(
                    f"Line {number} of {os.path.abspath(self.ann_file)} is {line!r}: name image and depth map in each "
                    "line, as in its first."
                )
            image = _below(image)
            item = dict(img_id=os.path.splitext(image)[0], img_path=image)
            if "depth" in self.data_prefix:
                if rest[0] == "None":
                    without += 1
                    continue
                item["depth_path"] = _below(rest[0])
            items.append(item)
        if without:
            print_log(f"{self._metainfo['ann_file']}: {without} images without a depth map left out", logger="current")
        return items

    def require_readable(self, entry: dict) -> tuple[float, float]:
        """(largest depth in meters, share of pixels with one) of one map, which belongs to an image of its size."""
        depth = self.read_depth(entry["depth_path"])
        self.require_pair(entry, depth)
        return float(depth.max()), np.count_nonzero(depth) / depth.size

    def require_pair(self, entry: dict, depth: np.ndarray) -> None:
        """An image that belongs to the depth (H, W) of its map, which holds some; BrokenImage where it is not so."""
        read_image(entry["img_path"], depth.shape, f"depth map {entry['depth_path']} is")
        if not depth.any():
            most = self.read_depth.max_depth
            beyond = "" if most is None else f" or beyond max_depth={most:g} (is depth_scale right?)"
            raise BrokenImage(
                f"Depth map {entry['depth_path']} holds no depth, its {depth.size} pixels are holes{beyond}: "
                "replace it, or take the pair out of the data."
            )

    def check_before_training(self, most: int | None = None) -> list:
        """As for every dataset, and something has to be farther away than a hand; prints what the maps hold."""
        found = super().check_before_training(most)
        if found:
            largest, shares = np.array(found).T  # both (M,) maps
            problem = self.too_near(largest.max())
            if problem:
                raise DataError(problem)
            print_log(
                f"{len(found)} depth maps read: up to {largest.max():.2f} m, {100 * (1 - shares.mean()):.1f} % of the "
                "pixels are holes",
                logger="current",
            )
        return found

    def too_near(self, largest: float) -> str | None:
        """A sentence where the largest depth of all maps, in meters, shows that the unit is wrong."""
        if largest >= NEAREST:
            return None
        return (
            f"The largest depth in the maps of {self._metainfo['ann_file']} is {largest:.2g} m: correct "
            f"depth_scale={self.read_depth.scale:g} on the dataset, the number that stands for one meter."
        )


def _below(path: str) -> str:
    """A list's path, which some begin with '/' and some write with backslashes, below its folder."""
    return path.replace("\\", "/").lstrip("/")


def _scale(given: float | str | None, suffix: str) -> float:
    """What stands for one meter."""
    if isinstance(given, str) and given in SCALES:
        return SCALES[given]
    if given is None and not suffix.lower().endswith(".png"):
        return 1.0
    if isinstance(given, int | float) and 0 < given < float("inf"):
        return float(given)
    said = "PNG maps need one" if given is None else f"not {given!r}{suggest(given, SCALES)}"
    raise ConfigError(
        "depth_scale of DepthDataset is the number that stands for one meter, 1000 for millimeters, or one of "
        f"{', '.join(SCALES)}: {said}."
    )
