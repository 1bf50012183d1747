"""DataSample: the one container that walks from the dataset to the metric.

| field | type | meaning |
|---|---|---|
| `gt_instances`, `pred_instances` | InstanceData | the objects, see below |
| `ignored_instances` | InstanceData | crowds and ignore regions: neither objects nor background |
| `gt_semantic`, `pred_semantic` | Tensor (H, W) int64 | class of each pixel, 255 = ignore |
| `original_semantic` | Tensor (H, W) int64 | `gt_semantic` in the frame of the original image, from test pipelines |
| `gt_depth`, `pred_depth` | Tensor (H, W) float32 | meters, 0 = no measurement; see `depth_kind` |
| `original_depth` | Tensor (H, W) float32 | `gt_depth` in the frame of the original image, from test pipelines |

Instances have `bboxes` (N, 4) float32 xyxy in pixels, `labels` (N,) int64 from 0 and `masks` where there are masks;
predicted ones have `scores` (N,). True masks are a Tensor (N, H, W) bool, or where that would be large
`ops.cropped_masks.CroppedMasks`; predicted ones are a list of N COCO RLEs dict(size=[H, W], counts=bytes), as a hundred
bitmaps of a large photograph fill a memory.

Ground truth (`gt_*`) is in the frame of the network's input, predictions (`pred_*`) in the frame of the original image.

| meta | meaning |
|---|---|
| `img_id`, `img_path` | the dataset's id of the image, and its file (None for an array) |
| `ori_shape` | (height, width) of the original image |
| `img_shape` | (height, width) after the transforms, without padding |
| `pad_shape` | (height, width) padded to the size divisor; the batch may be larger |
| `batch_input_shape` | (height, width) of the batch: the network's input |
| `scale_factor` | (x, y): resized / original |
| `flip` | flipped left to right |
| `window` | (top, left, height, width) of the original image that the network sees; none: all of it |
| `depth_kind` | of `pred_depth`: 'metric', or 'relative', inverse depth up to a scale and a shift, larger is nearer |
| `depth_range` | (nearest, farthest) meters that `pred_depth` can be, where bounded; other ground truth is none |

Background is class K where a background class exists.
"""

from mmengine.structures import BaseDataElement, InstanceData

__all__ = ["DataSample", "InstanceData"]


class DataSample(BaseDataElement):
    """One image's ground truth, predictions and meta; see the tables above."""
