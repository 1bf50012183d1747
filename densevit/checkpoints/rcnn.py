"""Mask R-CNN's and Cascade R-CNN's heads: names of mmdetection (2.x and 3.x alike) and of detectron2."""

from densevit.checkpoints.rules import Rule

RPN = {
    "mmdet": [
        Rule("rpn_head.rpn_conv.{}.conv.*", "rpn.convs.{}.*"),
        Rule("rpn_head.rpn_conv.weight", "rpn.convs.0.weight"),
        Rule("rpn_head.rpn_conv.bias", "rpn.convs.0.bias"),
        Rule("rpn_head.rpn_cls.*", "rpn.objectness.*"),
        Rule("rpn_head.rpn_reg.*", "rpn.deltas.*"),
    ],
    "detectron2": [
        Rule("proposal_generator.rpn_head.conv.conv{}.*", "rpn.convs.{}.*"),
        Rule("proposal_generator.rpn_head.conv.weight", "rpn.convs.0.weight"),
        Rule("proposal_generator.rpn_head.conv.bias", "rpn.convs.0.bias"),
        Rule("proposal_generator.rpn_head.objectness_logits.*", "rpn.objectness.*"),
        Rule("proposal_generator.rpn_head.anchor_deltas.*", "rpn.deltas.*"),
        Rule("proposal_generator.anchor_generator.cell_anchors.{}", None),
    ],
}


def _mmdet_stage(theirs: str, box: str, mask: str) -> list[Rule]:
    """One box part and one mask part of mmdetection. theirs: what stands between 'bbox_head' and the layer's name."""
    return [
        Rule(f"roi_head.bbox_head{theirs}.shared_convs.{{}}.conv.*", f"{box}.convs.{{}}.conv.*"),
        Rule(f"roi_head.bbox_head{theirs}.shared_convs.{{}}.bn.*", f"{box}.convs.{{}}.norm.*"),
        Rule(f"roi_head.bbox_head{theirs}.shared_fcs.{{}}.*", f"{box}.fcs.{{}}.*"),
        Rule(f"roi_head.bbox_head{theirs}.fc_cls.*", f"{box}.classify.*"),
        Rule(f"roi_head.bbox_head{theirs}.fc_reg.*", f"{box}.regress.*"),
        Rule(f"roi_head.mask_head{theirs}.convs.{{}}.conv.*", f"{mask}.convs.{{}}.conv.*"),
        Rule(f"roi_head.mask_head{theirs}.convs.{{}}.bn.*", f"{mask}.convs.{{}}.norm.*"),
        Rule(f"roi_head.mask_head{theirs}.upsample.*", f"{mask}.upsample.*"),
        Rule(f"roi_head.mask_head{theirs}.conv_logits.*", f"{mask}.logits.*"),
    ]


def _detectron2_box(theirs: str, box: str) -> list[Rule]:
    """One box part of detectron2. theirs: what stands between 'box_head' and the layer's name."""
    return [
        Rule(f"roi_heads.box_head{theirs}.conv{{+1}}.norm.*", f"{box}.convs.{{}}.norm.*"),
        Rule(f"roi_heads.box_head{theirs}.conv{{+1}}.*", f"{box}.convs.{{}}.conv.*"),
        Rule(f"roi_heads.box_head{theirs}.fc{{+1}}.*", f"{box}.fcs.{{}}.*"),
        Rule(f"roi_heads.box_predictor{theirs}.cls_score.*", f"{box}.classify.*"),
        Rule(f"roi_heads.box_predictor{theirs}.bbox_pred.*", f"{box}.regress.*"),
    ]


def _detectron2_mask(mask: str) -> list[Rule]:
    return [
        Rule("roi_heads.mask_head.mask_fcn{+1}.norm.*", f"{mask}.convs.{{}}.norm.*"),
        Rule("roi_heads.mask_head.mask_fcn{+1}.*", f"{mask}.convs.{{}}.conv.*"),
        Rule("roi_heads.mask_head.deconv.*", f"{mask}.upsample.*"),
        Rule("roi_heads.mask_head.predictor.*", f"{mask}.logits.*"),
    ]


MASK_RCNN_TABLES = {
    "mmdet": [*RPN["mmdet"], *_mmdet_stage("", "box", "mask")],
    "detectron2": [*RPN["detectron2"], *_detectron2_box("", "box"), *_detectron2_mask("mask")],
}
CASCADE_TABLES = {
    "mmdet": [*RPN["mmdet"], *_mmdet_stage(".{}", "boxes.{}", "masks.{}")],
    "detectron2": [*RPN["detectron2"], *_detectron2_box(".{}", "boxes.{}"), *_detectron2_mask("masks.0")],
}
