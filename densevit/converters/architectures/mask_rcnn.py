"""Mask R-CNN's head: names of mmdetection (2.x and 3.x alike) and detectron2."""

from densevit.converters.architecture import Architecture
from densevit.converters.key_mapping import KeyRule, ignored, renamed

RPN = {
    "mmdet": [
        KeyRule("rpn_head.rpn_conv.{}.conv.*", "rpn.convs.{}.*"),
        *renamed(**{"rpn_head.rpn_cls": "rpn.objectness", "rpn_head.rpn_reg": "rpn.deltas"}),
        KeyRule("rpn_head.rpn_conv.*", "rpn.convs.0.*"),
    ],
    "detectron2": [
        *ignored("proposal_generator.anchor_generator.cell_anchors.{}"),
        *(
            rule.within("proposal_generator.rpn_head.", "rpn.")
            for rule in (
                KeyRule("conv.conv{}.*", "convs.{}.*"),
                *renamed(conv="convs.0", objectness_logits="objectness", anchor_deltas="deltas"),
            )
        ),
    ],
}


def mmdet_stage(number: str, box: str, mask: str) -> list[KeyRule]:
    """One box part and one mask part of mmdetection. number: between 'bbox_head' and the layer's name."""
    boxes = [
        KeyRule("shared_convs.{}.conv.*", "convs.{}.conv.*"),
        KeyRule("shared_convs.{}.bn.*", "convs.{}.norm.*"),
        KeyRule("shared_fcs.{}.*", "fcs.{}.*"),
        *renamed(fc_cls="cls_pred", fc_reg="bbox_pred"),
    ]
    masks = [
        KeyRule("convs.{}.conv.*", "convs.{}.conv.*"),
        KeyRule("convs.{}.bn.*", "convs.{}.norm.*"),
        *renamed(upsample="upsample", conv_logits="logits"),
    ]
    return [
        *(rule.within(f"roi_head.bbox_head{number}.", f"{box}.") for rule in boxes),
        *(rule.within(f"roi_head.mask_head{number}.", f"{mask}.") for rule in masks),
    ]


def detectron2_stage(number: str, box: str, mask: str) -> list[KeyRule]:
    """One box part and the mask part of detectron2. number: between 'box_head' and the layer's name."""
    boxes = [
        KeyRule(f"box_head{number}.conv{{+1}}.norm.*", "convs.{}.norm.*"),
        KeyRule(f"box_head{number}.conv{{+1}}.*", "convs.{}.conv.*"),
        KeyRule(f"box_head{number}.fc{{+1}}.*", "fcs.{}.*"),
        KeyRule(f"box_predictor{number}.cls_score.*", "cls_pred.*"),
        KeyRule(f"box_predictor{number}.bbox_pred.*", "bbox_pred.*"),
    ]
    masks = [
        KeyRule("mask_fcn{+1}.norm.*", "convs.{}.norm.*"),
        KeyRule("mask_fcn{+1}.*", "convs.{}.conv.*"),
        *renamed(deconv="upsample", predictor="logits"),
    ]
    return [
        *(rule.within("roi_heads.", f"{box}.") for rule in boxes),
        *(rule.within("roi_heads.mask_head.", f"{mask}.") for rule in masks),
    ]


ARCHITECTURE = Architecture(
    "MaskRCNNHead",
    keys={
        "mmdet": [*RPN["mmdet"], *mmdet_stage("", "box", "mask")],
        "detectron2": [*RPN["detectron2"], *detectron2_stage("", "box", "mask")],
    },
)
