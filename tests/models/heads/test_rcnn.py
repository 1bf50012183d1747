"""Mask R-CNN and Cascade R-CNN: what has to hold whatever the weights."""

import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.errors import ConfigError, DataError
from densevit.models.heads.cascade_rcnn import CascadeRCNNHead
from densevit.models.heads.mask_rcnn import MaskRCNNHead
from densevit.ops.masks import decode_rle
from densevit.registry import MODELS
from densevit.structures import DataSample, InstanceData

STRIDES = (4, 8, 16, 32, 64)
CONFIGS = [
    pytest.param(dict(type=name, **args), id=f"{name}-{i}")
    for name in ("MaskRCNNHead", "CascadeRCNNHead")
    for i, args in enumerate(tiny.HEADS[name])
]


def build(config: dict):
    torch.manual_seed(0)
    return MODELS.build(config, default_args=dict(in_channels=(8,) * 5, in_strides=STRIDES))


def features(images: int = 1, size=(128, 128), seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 8, size[0] // s, size[1] // s, generator=generator) * 20 for s in STRIDES]


def sample(size=(128, 128), **ground_truth) -> DataSample:
    return tiny.sample(
        size, **{"boxes": ((4, 4, 60, 90), (40, 30, 120, 110), (70, 5, 90, 30)), "labels": (0, 2, 1), **ground_truth}
    )


def same(first: InstanceData, second: InstanceData) -> None:
    assert len(first) == len(second) > 0
    torch.testing.assert_close(first.bboxes, second.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(first.scores, second.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(first.labels, second.labels)
    for one, other in zip(first.masks, second.masks, strict=True):
        assert (decode_rle(one) != decode_rle(other)).sum() <= 2  # pixels within rounding of the threshold


@pytest.mark.parametrize("config", CONFIGS)
def test_a_batch_equals_its_images_one_by_one(config):
    head, maps = build(config).eval(), features(images=2)
    samples = [sample(), sample(size=(100, 90))]
    with torch.no_grad():
        together = head.predict(maps, samples)
        for i in range(2):
            alone = head.predict([x[i : i + 1] for x in maps], samples[i : i + 1])
            same(alone[0]["pred_instances"], together[i]["pred_instances"])


@pytest.mark.parametrize("config", CONFIGS)
def test_more_padding_changes_no_prediction(config):
    """Maps that are zero beyond the image, in a batch of its own size and in a larger one."""
    head, maps = build(config).eval(), features(size=(192, 192))
    for x, stride in zip(maps, STRIDES, strict=True):
        x[..., 128 // stride :, :] = 0
        x[..., 128 // stride :] = 0
    larger = [torch.nn.functional.pad(x, (0, 192 // s, 0, 64 // s)) for x, s in zip(maps, STRIDES, strict=True)]
    image = sample(size=(128, 120))
    with torch.no_grad():
        same(head.predict(maps, [image])[0]["pred_instances"], head.predict(larger, [image])[0]["pred_instances"])


@pytest.mark.parametrize("config", CONFIGS)
def test_predictions_are_in_the_original_image_with_masks_inside_their_boxes(config):
    head, image = build(config).eval(), sample(size=(120, 100))
    image.set_metainfo(dict(ori_shape=(240, 300), scale_factor=(1 / 3, 0.5)))
    with torch.no_grad():
        found = head.predict(features(), [image])[0]["pred_instances"]
    assert len(found) == len(found.masks) > 0
    assert (found.bboxes[:, 2] <= 300).all()
    assert (found.bboxes[:, 3] <= 240).all()
    for box, mask in zip(found.bboxes, found.masks, strict=True):
        bitmap = torch.from_numpy(decode_rle(mask))
        assert bitmap.shape == (240, 300)
        rows, columns = bitmap.nonzero(as_tuple=True)
        if len(rows):
            assert columns.min() >= box[0].floor() - 1
            assert columns.max() <= box[2].ceil()
            assert rows.min() >= box[1].floor() - 1
            assert rows.max() <= box[3].ceil()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", ["one of two empty", "all ignored", "tiny objects"])
def test_hard_batches_train(config, kind):
    head, maps = build(config).train(), [x.requires_grad_() for x in features(images=2)]
    empty = sample(boxes=(), labels=())
    samples = {
        "one of two empty": [sample(), empty],
        "all ignored": [empty, sample(boxes=(), labels=())],
        "tiny objects": [sample(boxes=((3, 3, 4, 4),), labels=(1,)), empty],
    }[kind]
    if kind == "all ignored":
        samples[0].ignored_instances = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, 128.0, 128.0]]), labels=torch.tensor([0])
        )
    losses = head.loss(maps, samples)
    total = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
    assert total.isfinite()
    total.backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(x.grad is not None and x.grad.isfinite().all() for x in maps)


@pytest.mark.parametrize("head", [MaskRCNNHead, CascadeRCNNHead])
def test_regions_in_ignored_areas_neither_help_nor_hurt(head):
    args = dict(sample=dict(num=10_000))
    if head is MaskRCNNHead:
        args["assign"] = dict(ignore_iof=0.5)
        box = head((8,) * 5, STRIDES, 3, box=args).box
    else:
        stage = dict(assign=dict(pos_iou=0.5, neg_iou=0.5, min_pos_iou=0.5, match_low_quality=False, ignore_iof=0.5))
        box = head((8,) * 5, STRIDES, 3, box=args, stages=[stage], stage_weights=[1]).boxes[0]
    proposals = torch.tensor([[4.0, 4.0, 60.0, 90.0], [70.0, 70.0, 90.0, 90.0], [0.0, 100.0, 20.0, 120.0]])
    image = sample(boxes=((4, 4, 60, 90),), labels=(1,))
    plain = box.sample_rois(proposals, image)
    assert (plain.positives, len(plain.boxes)) == (2, 4)
    assert plain.added.tolist() == [True, False, False, False]
    image.ignored_instances = InstanceData(bboxes=torch.tensor([[60.0, 60.0, 128.0, 128.0]]), labels=torch.tensor([0]))
    spared = box.sample_rois(proposals, image)
    assert (spared.positives, len(spared.boxes)) == (2, 3)
    assert box.labels([spared], [image]).tolist() == [1, 1, 3]


def test_masks_are_learnt_from_masks():
    head, image = build(dict(type="MaskRCNNHead", **tiny.HEADS["MaskRCNNHead"][0])), sample()
    del image.gt_instances.masks
    with pytest.raises(DataError, match="with_mask"):
        head.loss(features(), [image])


@pytest.mark.parametrize("config", CONFIGS)
def test_an_object_with_an_empty_mask_moves_no_mask_and_stays_an_object_to_the_boxes(config):
    config = dict(
        config, box=dict(config["box"], sample=dict(num=10_000)), rpn=dict(config["rpn"], sample=dict(num=10_000))
    )
    head, found = build(config).eval(), []
    for emptied in (False, True):
        data = sample()
        data.gt_instances.masks[1] &= not emptied
        losses = head.loss(features(), [data])
        found.append({k: sum(v) if isinstance(v, list) else v for k, v in losses.items()})
    for name in found[0]:
        same_value = torch.equal(found[0][name], found[1][name])
        assert same_value != ("mask" in name), name
    regions, index = torch.tensor([[4.0, 4.0, 60.0, 90.0], [40.0, 30.0, 120.0, 110.0]]), torch.tensor([0, 1])
    part, maps = head.mask_parts[0], features()
    torch.testing.assert_close(
        part.loss(maps, [regions], [index], [data]), part.loss(maps, [regions[:1]], [index[:1]], [data])
    )


def test_the_mask_of_a_label_is_that_of_all_classes_at_the_label():
    head = build(dict(type="MaskRCNNHead", **tiny.HEADS["MaskRCNNHead"][0]))
    pooled, labels = torch.randn(6, 8, 14, 14), torch.tensor([0, 1, 2, 2, 1, 0])
    with torch.no_grad():
        torch.testing.assert_close(head.mask(pooled, labels), head.mask(pooled)[torch.arange(6), labels])


def test_anchors_in_the_padding_of_the_batch_count_where_asked():
    image = sample(size=(64, 64), boxes=((4, 4, 40, 40),), labels=(0,))
    image.set_metainfo(dict(pad_shape=(64, 64)))
    counted = {}
    for in_padding in (False, True):
        rpn = MaskRCNNHead(
            (8,) * 5, STRIDES, 3, rpn=dict(assign=dict(in_padding=in_padding), sample=dict(num=10_000))
        ).rpn
        sizes, levels = rpn.anchors(features())
        _, drawn = rpn.targets(torch.cat(levels), sizes, image)
        counted[in_padding] = drawn[: 32 * 32 * 3].view(32, 32, 3)
    assert not counted[False][16:].any()
    assert not counted[False][:, 16:].any()
    assert counted[True][16:].all()


def test_gradients_of_the_pooled_maps_are_divided_among_the_stages():
    config = dict(tiny.HEADS["CascadeRCNNHead"][0], type="CascadeRCNNHead")
    grads = []
    for scaled in (False, True):
        head = build(dict(config, scale_gradients=scaled)).train()
        for mask in head.masks:
            mask.loss_weight = 0.0
        maps = [x.requires_grad_() for x in features()]
        losses = head.roi_losses(maps, [torch.tensor([[4.0, 4.0, 60.0, 90.0], [5.0, 9.0, 50.0, 60.0]])], [sample()])
        sum(losses.values()).backward()
        grads.append(maps[1].grad)
    torch.testing.assert_close(grads[0] / 3, grads[1])


def test_stages_that_keep_all_start_from_every_box_and_those_that_resample_without_the_ground_truth():
    proposals = [torch.tensor([[4.0, 4.0, 60.0, 90.0], [60.0, 60.0, 70.0, 70.0]])]
    for resample, wanted in ((True, 2), (False, 5)):
        head = build(dict(tiny.HEADS["CascadeRCNNHead"][0], type="CascadeRCNNHead", resample=resample))
        regions = [head.boxes[0].sample_rois(proposals[0], sample())]
        labels = head.boxes[0].labels(regions, [sample()])
        logits, deltas = torch.randn(5, 4), torch.zeros(5, 1, 4)
        assert len(head.refined(head.boxes[0], regions, labels, logits, deltas, [sample()])[0]) == wanted


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (dict(rpn=dict(scale=8)), r"rpn has no 'scale'"),
        (dict(rpn=dict(train=dict(nms_per=3))), r"rpn.train has no key 'nms_per'"),
        (dict(rpn=dict(anchors=dict(scale=8))), r"rpn.anchors has no key 'scale' \(nearest: 'scales'\)"),
        (dict(rpn=dict(loss=dict(divisor="batch"))), "divisor='batch'"),
        (dict(box=dict(fc=3)), "box has no 'fc'"),
        (dict(box=dict(norm="GN")), "norm='GN'"),
        (dict(box=dict(loss=dict(kind="iou"))), "kind='iou'"),
        (dict(mask=dict(pooling=dict(sise=7))), "mask.pooling has no key 'sise'"),
        (dict(in_channels=(8, 16)), "equal channels"),
    ],
)
def test_unknown_options_are_named(args, said):
    with pytest.raises(ConfigError, match=said):
        MaskRCNNHead(**{**dict(in_channels=(8,) * 5, in_strides=STRIDES, num_classes=3), **args})


def test_unknown_options_of_a_cascade_are_named():
    maps = dict(in_channels=(8,) * 5, in_strides=STRIDES, num_classes=3)
    with pytest.raises(ConfigError, match="2 stage_weights for 3 stages"):
        CascadeRCNNHead(**maps, stage_weights=(1, 1))
    with pytest.raises(ConfigError, match="average='median'"):
        CascadeRCNNHead(**maps, average="median")


@pytest.mark.parametrize("config", CONFIGS)
def test_training_and_prediction_in_bfloat16_stay_near_float32(config):
    head, maps = build(config), [x / 20 for x in features()]
    boxes = [torch.tensor([[4.0, 4.0, 60.0, 90.0], [30.0, 20.0, 100.0, 110.0], [60.0, 0.0, 90.0, 40.0]])]
    exact = head.roi_losses(maps, boxes, [sample()]) | head.rpn.loss(*head.rpn(maps), [sample()])
    with torch.autocast("cpu", torch.bfloat16):
        rough = head.roi_losses(maps, boxes, [sample()]) | head.rpn.loss(*head.rpn(maps), [sample()])
        with torch.no_grad():
            found = head.eval().predict(maps, [sample()])[0]["pred_instances"]
    assert found.bboxes.dtype == found.scores.dtype == torch.float32
    for name, value in exact.items():
        if name not in ("loss_rpn_cls", "loss_rpn_box"):  # the draw of anchors differs
            assert float(rough[name]) == pytest.approx(float(value), rel=0.05, abs=0.02), name
    sum(sum(v) if isinstance(v, list) else v for v in rough.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
