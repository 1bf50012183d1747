"""DepthDataset: images beside maps that say how far away each pixel is."""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mmengine.logging import print_log

from densevit.datasets.image_dataset import (
    DOWNLOAD_HINTS,
    IMAGES,
    ImageDataset,
    endings_of,
    lines_of,
    pair_folders,
    require_files,
    require_folders,
)
from densevit.datasets.io.depth import DepthReader
from densevit.datasets.io.image import BrokenImage, read_image
from densevit.errors import ConfigError, DataError, suggest
from densevit.registry import DATASETS

SCALES = {"nyu": 1000.0, "kitti": 256.0, "tum": 5000.0, "scenes": 1000.0}
"""What stands for one meter in the 16-bit maps of well-known datasets."""
NEAREST = 0.1
"""Meters: where no pixel of any map is farther away, the unit is another one."""


@DATASETS.register_module()
class DepthDataset(ImageDataset):
    """A folder of images and one of depth maps: NYU Depth V2, KITTI, TUM RGB-D or anyone's own.

    The map of `FOLDER/NAME` + `img_suffix` is `NAME` + `depth_suffix` below the folder of maps; or `ann_file` lists the
    pairs. `metainfo` holds `ann_file` (the list, or where the maps are) and `depth_scale`.

    Maps are 16-bit PNG, NPY or EXR files (a channel Z, Y or R, without compression or with ZIP); meters = number
    / depth_scale, and 0, NaN, infinity and what is below 0 are holes, which nobody learns from and nobody scores.

    Args:
        data_root: folder that everything else is relative to.
        data_prefix: dict(img=folder of the images, depth=folder of the maps); a test set may come without maps.
        ann_file: text file of what to use, one image a line: its name, with or without ending, or the paths of image
            and map below their folders (BTS's lists of NYU and KITTI: what follows, a focal length, is not needed, and
            a pair whose map is 'None' is left out); '' uses all images.
        depth_scale: the number that stands for one meter, such as 1000 for millimeters, or the name of a dataset:
            'nyu' (1000), 'kitti' (256), 'tum' (5000), 'scenes' (1000). NPY and EXR files may leave it out, which
            means meters.
        pipeline: transforms, as configs or callables.
        test_mode: nothing is random, nothing is skipped.
        img_suffix: ending of the images' names; None: any image.
        depth_suffix: ending of the maps' names.
        max_depth: meters; a depth beyond it is a hole. None: a depth beyond 1000 says that depth_scale is wrong, and
            is an error.
        seed: first part of each item's random state.
        on_broken: 'error', or 'skip': another image takes a broken one's place in training, and that of a broken map.
        check_files: look for every image and map before the first is read.
        indices: the first so many images, or the locations of those to use.

    Raises:
        DataError: folders, images or maps are missing.
        ConfigError: arguments that cannot be used, such as PNG maps without a unit.
    """

    checked_before_training = 2_000

    def __init__(
        self,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        ann_file: str = "",
        depth_scale: float | str | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        img_suffix: str | None = None,
        depth_suffix: str = ".png",
        max_depth: float | None = None,
        seed: int = 0,
        on_broken: str = "error",
        check_files: bool = True,
        indices: int | Sequence[int] | None = None,
    ) -> None:
        folders = pair_folders(data_prefix, "depth", "depth map", "DepthDataset", test_mode)
        self.img_suffix, self.depth_suffix = img_suffix or IMAGES, depth_suffix
        known = "depth" in folders or depth_scale is not None
        scale = _scale(depth_scale, depth_suffix) if known else None
        self.read_depth = DepthReader(scale or 1.0, max_depth)
        # for what writes predictions as the dataset writes ground truth, which a test set may come without
        self._stored_scale = scale if depth_scale is not None and depth_suffix.lower() == ".png" else None
        super().__init__(
            ann_file,
            data_root,
            folders,
            pipeline,
            test_mode,
            seed=seed,
            on_broken=on_broken,
            check_files=check_files,
            indices=indices,
        )

    def load_data_list(self) -> list[dict]:
        """One dict per image: `img_id`, its name without ending, `img_path` and, where there are maps, `depth_path`."""
        folder, maps = self.data_prefix["img"], self.data_prefix.get("depth")
        require_folders(folder, maps, "depth map")
        self._metainfo.update(ann_file=os.path.abspath(self.ann_file or maps or folder), depth_scale=self._stored_scale)
        pairs = lines_of(self.ann_file) if self.ann_file else []
        items = self._listed_pairs(pairs) if pairs and len(pairs[0].split()) > 1 else self._named_alike(maps)
        if not items:
            endings = endings_of(self.img_suffix)
            raise DataError(f"There is no image *{endings} in {os.path.abspath(folder)}: {DOWNLOAD_HINTS}.")
        if self.check_files and not (self.on_broken == "skip" and not self.test_mode):
            way_on = f"correct depth_suffix={self.depth_suffix!r} or the list if the maps"
            require_files(items, self.data_prefix, "depth", "depth map", way_on)
        print_log(f"{self._metainfo['ann_file']}: {len(items)} images", logger="current")
        return items

    def _named_alike(self, maps: str | None) -> list[dict]:
        """Images and maps of one name."""
        found = self._find_pairs(self.depth_suffix, "depth", "depth map")
        items = [dict(img_id=name, img_path=path) for name, path in found.items()]
        return items if maps is None else [dict(item, depth_path=item["img_id"] + self.depth_suffix) for item in items]

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

    def get_data_info(self, idx: int) -> dict:
        """Entry of one image, with the absolute paths of its files and what reads its map."""
        info = super().get_data_info(idx)
        if "depth_path" in info:
            info["depth_path"] = os.path.join(self.data_prefix["depth"], info["depth_path"])
            info["read_depth"] = self.read_depth
        return info

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
            largest, shares = np.array(found).T
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
        """A sentence where the largest depth of all maps, in meters, says that the unit is another one."""
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
