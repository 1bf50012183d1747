"""Prediction: what was found in one image, as numpy arrays, as a picture, as JSON."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from densevit.errors import ConfigError
from densevit.ops.masks import extent_rle, outlines
from densevit.ops.point_cloud import point_cloud
from densevit.structures import DataSample
from densevit.visualization import draw_classes, draw_depth, draw_instances, enlarged, has_depth, side_by_side

IGNORED = 255  # of pixel classes: none


class Prediction(DataSample):
    """What was found in one image, in that image's own pixels; objects with the best score first.

    Beside DataSample's fields: `image`, the image itself, (H, W, 3) uint8 RGB, and in the meta information the names
    of the `classes` and, where pixels have classes of their own, of the `semantic_classes`, the `palette` of the
    semantic classes where the model's dataset states one, and `depth_kind`: 'metric' where depth is meters, 'relative'
    where it is inverse depth up to a scale and a shift that nobody knows, larger is nearer (None without depth). What
    the model does not predict is empty (objects) or None (maps).
    """

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32: left, top, right, bottom in pixels."""
        return self._of_instances("bboxes", np.empty((0, 4), np.float32))

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64: class numbers from 0."""
        return self._of_instances("labels", np.empty(0, np.int64))

    @property
    def scores(self) -> np.ndarray:
        """(N,) float32 in 0 to 1."""
        return self._of_instances("scores", np.empty(0, np.float32))

    @property
    def rles(self) -> list[dict] | None:
        """N COCO RLEs dict(size=[H, W], counts=bytes), which pycocotools takes as they are; None without masks."""
        found = self.get("pred_instances")
        return None if found is None or "masks" not in found else list(found.masks)

    @property
    def masks(self) -> np.ndarray | None:
        """(N, H, W) bool, unpacked anew at each call; None without masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self.rles), *self.image.shape[:2]), bool)
        for mask, rle in zip(masks, self.rles, strict=True):
            part, left, top = extent_rle(rle)
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    @property
    def polygons(self) -> list[list[np.ndarray]] | None:
        """N lists of rings (n, 2) int of (x, y), the masks' outlines along pixel edges and those of their holes, to be
        filled even-odd; None without masks."""
        return None if self.rles is None else [_rings(rle) for rle in self.rles]

    @property
    def names(self) -> list[str]:
        """N class names."""
        return [_class_name(self.get("classes"), label) for label in self.labels.tolist()]

    @property
    def semantic(self) -> np.ndarray | None:
        """(H, W) int64: the class number of each pixel, from 0; 255 = none."""
        return self.pred_semantic.cpu().numpy() if "pred_semantic" in self else None

    @property
    def semantic_names(self) -> Sequence[str] | None:
        """The names of the semantic classes."""
        return self.get("semantic_classes") or self.get("classes")

    @property
    def depth(self) -> np.ndarray | None:
        """(H, W) float32: meters of each pixel, 0 = none; or, where `depth_kind` is 'relative', larger for nearer."""
        return self.pred_depth.cpu().numpy() if "pred_depth" in self else None

    def point_cloud(self, intrinsics: Sequence[float], stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The points that the pixels with depth show: (N, 3) float32 meters, x right, y down, z forward from the
        camera, and (N, 3) uint8 RGB; for `densevit.ops.point_cloud.write_ply`.

        Args:
            intrinsics: of the camera in pixels of this image: focal lengths and principal point (fx, fy, cx, cy).
            stride: take each so-many-th row and column.

        Raises:
            ConfigError: the model predicts no depth, or a relative one.
            DataError: the intrinsics are not of such an image.
        """
        if self.depth is None:
            raise ConfigError("a point cloud needs depth, and this model predicts none; take one with a head of depth.")
        if self._relative:
            raise ConfigError(
                "a point cloud needs meters, and this model's depth is relative (inverse depth without a unit); take a "
                "model of metric depth."
            )
        return point_cloud(self.depth, self.image, intrinsics, stride)

    def draw(
        self, score_thr: float = 0.3, min_size: int = 0, depth_limits: tuple[float, float] | None = None
    ) -> np.ndarray:
        """What the sample has, drawn: a new (H, W, 3) uint8 RGB array.

        Objects are masks and boxes with names and scores on the image, which keeps its size; pixel classes lie over it,
        with a legend below; depth is in colors with a scale below. Several of them stand side by side, titled.

        Args:
            score_thr: what scores less is not drawn.
            min_size: enlarge a thumbnail by a whole factor until its longer side has so many pixels, so that
                names can be read on it; 0 keeps the size.
            depth_limits: (near, far), the ends of the colors of depth; None takes those of this image.
        """
        picture, factor = enlarged(self.image[..., ::-1], min_size)
        panels = []
        if "pred_instances" in self:
            sure = self.scores >= score_thr
            found = (self.boxes[sure] * factor, self.labels[sure], self.scores[sure], self.get("classes"))
            masks = None if self.rles is None else [self.rles[i] for i in np.flatnonzero(sure)]
            panels.append((draw_instances(picture, *found, masks), "objects"))
        if self.semantic is not None:
            class_map = _larger(self.semantic.astype(np.int32), factor)
            panels.append(
                (draw_classes(picture, class_map, self.semantic_names, palette=self.get("palette")), "classes")
            )
        if self.depth is not None:
            kind, title = ("relative", "relative depth") if self._relative else ("metric", "depth")
            panels.append((draw_depth(_larger(self.depth, factor), depth_limits, kind=kind), title))
        if len(panels) > 1:
            picture = side_by_side(panels)
        elif panels:
            picture = panels[0][0]
        return np.ascontiguousarray(picture[..., ::-1])

    def to_dict(self, score_thr: float = 0.0) -> dict[str, Any]:
        """Plain numbers and text: the image's path and size, and per object name, label, score, `box` (left, top,
        right, bottom) and COCO's `bbox` (left, top, width, height) in pixels of the image and, where there are masks,
        COCO's `segmentation`, an RLE with its counts as text.

        Where pixels have classes, `classes` holds the share of the pixels by class name, the largest first (what has
        no class is left out); where they have depth, `depth` its `kind` and `unit` ('metric' in 'm', or 'relative'
        without one) and its least, median and greatest value (None without any).
        """
        height, width = self.image.shape[:2]
        objects = [
            {
                "name": name,
                "label": label,
                "score": score,
                "box": box,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            }
            for name, label, score, box in zip(
                self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]
        if self.rles is not None:
            for one, rle in zip(objects, self.rles, strict=True):
                one["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
        objects = [one for one in objects if one["score"] >= score_thr]
        content = {"image": self.get("img_path"), "width": width, "height": height, "objects": objects}
        if self.semantic is not None:
            content["classes"] = _shares(self.semantic, self.semantic_names)
        if self.depth is not None:
            kind, unit = ("relative", None) if self._relative else ("metric", "m")
            content["depth"] = {"kind": kind, "unit": unit, **_range(self.depth, kind)}
        return content

    @property
    def _relative(self) -> bool:
        return self.get("depth_kind") == "relative"

    def _of_instances(self, field: str, nothing: np.ndarray) -> np.ndarray:
        found = self.get("pred_instances")
        return nothing if found is None else found[field].cpu().numpy()


def _rings(rle: dict) -> list[np.ndarray]:
    part, left, top = extent_rle(rle)
    return [ring + np.array([left, top]) for ring in outlines(part)[0]]


def _class_name(classes: Sequence[str] | None, label: int) -> str:
    return classes[label] if classes and label < len(classes) else f"#{label}"


def _larger(values: np.ndarray, factor: int) -> np.ndarray:
    """A map enlarged with its picture, each pixel a square."""
    return cv2.resize(values, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST) if factor > 1 else values


def _shares(semantic: np.ndarray, names: Sequence[str] | None) -> dict[str, float]:
    """Class name -> its part of all pixels, the largest first."""
    labels, counts = np.unique(semantic, return_counts=True)
    shares: dict[str, float] = {}
    for location in np.argsort(-counts, kind="stable"):
        if labels[location] != IGNORED:
            name = _class_name(names, int(labels[location]))
            # two classes may have one name, as in ADE20K's longer lists
            shares[name] = shares.get(name, 0.0) + float(counts[location] / semantic.size)
    return shares


def _range(depth: np.ndarray, kind: str) -> dict[str, float | None]:
    measured = depth[has_depth(depth, kind)]
    if not measured.size:
        return dict.fromkeys(("min", "median", "max"))
    return {"min": float(measured.min()), "median": float(np.median(measured)), "max": float(measured.max())}
