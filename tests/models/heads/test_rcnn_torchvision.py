"""Mask R-CNN's parts live against torchvision's, on the same weights and maps."""

from collections import OrderedDict

import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from densevit.models.heads.mask_rcnn import MaskRCNNHead
from densevit.ops.roi_align import as_rois
from densevit.structures import DataSample, InstanceData

STRIDES, CLASSES, SIZES = (4, 8, 16, 32, 64), 4, [(240, 256), (256, 200)]
NAMES = ("0", "1", "2", "3", "pool")
POOLING = dict(sampling_ratio=2, aligned=False, level_rule="canonical")


def from_torchvision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's names and order of classes (background first) in ours (background last)."""
    ours = {}
    for theirs, name in (
        ("rpn.head.conv.0.0", "rpn.convs.0"),
        ("rpn.head.cls_logits", "rpn.objectness"),
        ("rpn.head.bbox_pred", "rpn.deltas"),
        ("roi_heads.box_head.fc6", "box.fcs.0"),
        ("roi_heads.box_head.fc7", "box.fcs.1"),
        ("roi_heads.box_predictor.cls_score", "box.cls_pred"),
        ("roi_heads.box_predictor.bbox_pred", "box.bbox_pred"),
        *((f"roi_heads.mask_head.{i}.0", f"mask.convs.{i}.conv") for i in range(4)),
        ("roi_heads.mask_predictor.conv5_mask", "mask.upsample"),
        ("roi_heads.mask_predictor.mask_fcn_logits", "mask.logits"),
    ):
        for kind in ("weight", "bias"):
            value = state[f"{theirs}.{kind}"]
            if name == "box.cls_pred":
                value = torch.cat((value[1:], value[:1]))
            elif name == "box.bbox_pred":
                value = value[4:]
            elif name == "mask.logits":
                value = value[1:]
            ours[f"{name}.{kind}"] = value
    return ours


@pytest.fixture(scope="module")
def both():
    """torchvision's model and our head with its weights, drawn so that there is something to find; maps; samples."""
    torch.manual_seed(0)
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        # torchvision rounds its anchors: squares of even sides stay what they are
        rpn_anchor_generator=AnchorGenerator(sizes=tuple((8 * s,) for s in STRIDES), aspect_ratios=((1.0,),) * 5),
        rpn_head=torchvision.models.detection.rpn.RPNHead(256, 1),
        rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=100,
        box_score_thresh=0.3,
        box_detections_per_img=20,
    ).eval()
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if name.startswith(("rpn", "roi_heads")):
                value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 else 0.1)
        theirs.rpn.head.bbox_pred.weight.mul_(0.3)
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(12)
    ours = MaskRCNNHead(
        (256,) * 5,
        STRIDES,
        CLASSES,
        rpn=dict(
            anchors=dict(ratios=(1.0,)),
            coder=dict(limit_shrink=False),
            test=dict(nms_pre=150, max_per_image=100, min_size=1e-3),
        ),
        box=dict(
            pooling=POOLING, coder=dict(limit_shrink=False), test=dict(score_thr=0.3, max_per_image=20, min_size=1e-2)
        ),
        mask=dict(pooling=POOLING),
    ).eval()
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    maps = [torch.randn(2, 256, 256 // s, 256 // s) for s in STRIDES]
    samples = [DataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))) for size in SIZES]
    return theirs, ours, maps, samples


def test_the_same_weights_give_the_same_proposals_detections_and_masks(both):
    theirs, ours, maps, samples = both
    features = OrderedDict(zip(NAMES, maps, strict=True))
    with torch.no_grad():
        wanted, _ = theirs.rpn(ImageList(torch.zeros(2, 3, 256, 256), SIZES), features)
        detections, _ = theirs.roi_heads(features, wanted, SIZES)
        proposals = [boxes for boxes, _ in ours.rpn.proposals(*ours.rpn(maps), samples)]
        found = ours.detect(maps, proposals, samples)
        masks = ours.mask.probabilities(
            maps, as_rois([f.bboxes for f in found]), torch.cat([f.labels for f in found])
        ).split([len(f) for f in found])
    for boxes, want in zip(proposals, wanted, strict=True):
        torch.testing.assert_close(boxes, want, rtol=1e-5, atol=1e-3)
    for instances, mask, want in zip(found, masks, detections, strict=True):
        assert len(instances) == len(want["boxes"]) > 5
        assert (instances.labels + 1).tolist() == want["labels"].tolist()
        torch.testing.assert_close(instances.bboxes, want["boxes"], rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(instances.scores, want["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mask, want["masks"][:, 0], rtol=1e-4, atol=1e-5)


def test_the_same_regions_have_the_same_losses(both):
    """torchvision's own losses of its second stage, for regions and targets that are given."""
    from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss

    theirs, ours, maps, samples = both
    ground_truth = torch.tensor([[20.0, 30.0, 120.0, 140.0], [100.0, 40.0, 190.0, 200.0]])
    bitmaps = torch.zeros(2, 256, 256, dtype=torch.bool)
    bitmaps[0, 30:140, 20:80] = bitmaps[1, 60:200, 100:190] = True
    noise = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)) * 12
    proposals = [(ground_truth.repeat_interleave(10, 0) + noise).clamp(0, 200), torch.tensor([[5.0, 5.0, 90.0, 90.0]])]
    ground_truths = [
        (ground_truth, torch.tensor([3, 1]), bitmaps),
        (ground_truth[:0], torch.zeros(0, dtype=torch.long), bitmaps[:0]),
    ]
    for sample, (boxes, labels, masks) in zip(samples, ground_truths, strict=True):
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    regions = [ours.box.sample_rois(b, s) for b, s in zip(proposals, samples, strict=True)]
    assert regions[0].positives > 5
    labels = ours.box.labels(regions, samples)
    with torch.no_grad():
        logits, deltas = ours.box(ours.box.pool(maps, as_rois([r.boxes for r in regions])))
        ours.box.loss_options["smooth_l1_beta"] = 1 / 9
        class_loss, box_loss = ours.box.loss(logits, deltas, regions, samples, labels)
        positive, index = [r.positive for r in regions], [r.matched_gt_of_positive for r in regions]
        mask_loss = ours.mask.loss(maps, positive, index, samples)

        their_labels = [((x + 1) % (CLASSES + 1)) for x in labels.split([len(r.boxes) for r in regions])]
        indices = [r.matched_gt.clamp(min=0) for r in regions]
        matched = [t[0][i] if len(t[0]) else r.boxes for t, i, r in zip(ground_truths, indices, regions, strict=True)]
        targets = theirs.roi_heads.box_coder.encode(matched, [r.boxes for r in regions])
        features = OrderedDict(zip(NAMES, maps, strict=True))
        pooled = theirs.roi_heads.box_roi_pool(features, [r.boxes for r in regions], SIZES)
        want = fastrcnn_loss(*theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(pooled)), their_labels, targets)
        pooled = theirs.roi_heads.mask_roi_pool(features, positive, SIZES)
        their_masks = theirs.roi_heads.mask_predictor(theirs.roi_heads.mask_head(pooled))
        want_mask = maskrcnn_loss(
            their_masks, positive, [t[2].float() for t in ground_truths], [t[1] + 1 for t in ground_truths], index
        )
    torch.testing.assert_close(class_loss, want[0], rtol=1e-4, atol=1e-5)
    assert mask_loss == pytest.approx(float(want_mask), rel=0.02)  # their targets are not rounded to 0 and 1
    torch.testing.assert_close(box_loss, want[1], rtol=1e-4, atol=1e-5)
