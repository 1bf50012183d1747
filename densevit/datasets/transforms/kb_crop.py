"""The crop of KITTI's depth benchmark."""

from mmcv.transforms import BaseTransform

from densevit.datasets.io.image import BrokenImage
from densevit.datasets.io.jpeg import require_pixels
from densevit.datasets.transforms.geometry import MAPS
from densevit.errors import ConfigError
from densevit.ops.depth_crops import KB_SIZE, kb_window
from densevit.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KBCrop(BaseTransform):
    """Cut a KITTI image, and its maps, to the 1216 x 352 pixels at the bottom, in the middle (BTS's KB crop).

    It stands right behind LoadImage, in training behind LoadAnnotations. Predictions come back in the frame of the
    whole image, 0 around the window (`window` of the sample); the ground truth of a test pipeline stays whole.
    DepthMetric's crops 'garg' and 'eigen' lie within it; its 'kb_garg' and 'kb_eigen' are shares of what is left, which
    evaluations take that throw the rest away.

    Args:
        size: (width, height) of the window.
    """

    def __init__(self, size: tuple[int, int] = KB_SIZE[::-1]) -> None:
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        require_pixels(results, self)
        if results.get("resized") or results.get("flip") or "gt_bboxes" in results:
            raise ConfigError(
                "KBCrop cuts the image as it was loaded, for depth: put it right behind LoadImage (and, in training, "
                "LoadAnnotations), on a dataset without boxes."
            )
        height, width = results["img"].shape[:2]
        top, bottom, left, right = kb_window(height, width, self.size[::-1])
        if top < 0 or left < 0:
            wide, high = self.size
            raise BrokenImage(
                f"Image {results['img_path']} is {width}x{height} pixels, and KBCrop cuts {wide}x{high} out of KITTI's "
                "images: leave it out of the pipeline of others."
            )
        for key in ("img", *MAPS):
            if key in results:
                results[key] = results[key][top:bottom, left:right]
        results["window"] = (top, left, bottom - top, right - left)
        results["img_shape"] = results["window"][2:]
        return results
