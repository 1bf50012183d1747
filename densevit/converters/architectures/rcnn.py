"""Mask R-CNN's and Cascade R-CNN's heads: mmdetection (2.x and 3.x alike) and detectron2.

Their configurations stand in rcnn_mmdet.py and rcnn_detectron2.py.
"""

from densevit.converters.config_spec import Architecture
from densevit.converters.key_mapping import KeyRule, rules

RPN = {
    "mmdet": rules(
        "rpn_conv.{}.conv.->convs.{}. rpn_cls.->objectness. rpn_reg.->deltas. rpn_conv.->convs.0.", "rpn_head.", "rpn."
    ),
    "detectron2": rules("!proposal_generator.anchor_generator.cell_anchors.{}")
    + rules(
        "conv.conv{}.->convs.{}. conv.->convs.0. objectness_logits.->objectness. anchor_deltas.->deltas.",
        "proposal_generator.rpn_head.", "rpn.",
    ),
}  # fmt: skip


def mmdet_stage(number: str, box: str, mask: str) -> list[KeyRule]:
    """One box part and one mask part of mmdetection. number: between 'bbox_head' and the layer's name."""
    boxes = "shared_convs.{}.conv.->convs.{}.conv. shared_convs.{}.bn.->convs.{}.norm. shared_fcs.{}.->fcs.{}. "
    masks = "convs.{}.conv. convs.{}.bn.->convs.{}.norm. upsample. conv_logits.->logits."
    return [
        *rules(boxes + "fc_cls.->cls_pred. fc_reg.->bbox_pred.", f"roi_head.bbox_head{number}.", f"{box}."),
        *rules(masks, f"roi_head.mask_head{number}.", f"{mask}."),
    ]


def detectron2_stage(number: str, box: str, mask: str) -> list[KeyRule]:
    """One box part and the mask part of detectron2. number: between 'box_head' and the layer's name."""
    boxes = "conv{+1}.norm.->convs.{}.norm. conv{+1}.->convs.{}.conv. fc{+1}.->fcs.{}."
    masks = "mask_fcn{+1}.norm.->convs.{}.norm. mask_fcn{+1}.->convs.{}.conv. deconv.->upsample. predictor.->logits."
    return [
        *rules(boxes, f"roi_heads.box_head{number}.", f"{box}."),
        *rules("cls_score.->cls_pred. bbox_pred.", f"roi_heads.box_predictor{number}.", f"{box}."),
        *rules(masks, "roi_heads.mask_head.", f"{mask}."),
    ]


ARCHITECTURES = (
    Architecture(
        "MaskRCNNHead",
        {
            "mmdet": [*RPN["mmdet"], *mmdet_stage("", "box", "mask")],
            "detectron2": [*RPN["detectron2"], *detectron2_stage("", "box", "mask")],
        },
    ),
    Architecture(
        "CascadeRCNNHead",
        {
            "mmdet": [*RPN["mmdet"], *mmdet_stage(".{}", "boxes.{}", "masks.{}")],
            "detectron2": [*RPN["detectron2"], *detectron2_stage(".{}", "boxes.{}", "masks.0")],
        },
    ),
)
