"""Samples with maps, as a model gives them: ground truth padded and in the input's frame, predictions in the
original's."""

import torch.nn.functional as F
from torch import Tensor

from densevit.structures import DataSample

PADDING = {"semantic": 255, "depth": 0}


def map_sample(
    img_id: int, name: str, ground_truth: Tensor, predicted: Tensor, pad: tuple[int, int] = (0, 0), flip: bool = False
) -> dict:
    """One sample as metrics get it; `ground_truth` and `predicted` (H, W) in the original frame, `pad` in rows and
    columns."""
    shape = tuple(ground_truth.shape)
    seen = ground_truth.flip(-1) if flip else ground_truth
    fields = {f"gt_{name}": F.pad(seen, (0, pad[1], 0, pad[0]), value=PADDING[name]), f"pred_{name}": predicted}
    meta = {"img_id": img_id, "img_path": f"/data/{img_id}.png", "ori_shape": shape, "img_shape": shape, "flip": flip}
    return DataSample(metainfo=meta, **fields).to_dict()
