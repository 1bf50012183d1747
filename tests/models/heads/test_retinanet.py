import pytest
import tiny
import torch

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.models.heads.retinanet import RetinaNetHead
from densevit.ops.boxes import encode_deltas
from densevit.registry import MODELS
from densevit.structures import InstanceData

STRIDES = (8, 16, 32)


def head(**args):
    torch.manual_seed(0)
    return RetinaNetHead((4, 4, 4), STRIDES, **{**dict(num_classes=3, feat_channels=4, stacked_convs=1), **args})


def features(images=1, size=(64, 96)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 4, size[0] // s, size[1] // s, generator=generator) for s in STRIDES]


def perfect_maps(model, sample, size=(64, 96)):
    """Logits and deltas that say exactly what the targets ask for."""
    empty = [torch.zeros(1, 1, size[0] // s, size[1] // s) for s in STRIDES]
    sizes, levels = model.anchors(empty)
    anchors = torch.cat(levels)
    labels, locations, boxes, _ = model.targets(anchors, sizes, sample)
    logits = torch.full((len(anchors), 3), -12.0)
    logits[locations, labels[locations]] = 12.0
    deltas = torch.zeros(len(anchors), 4)
    deltas[locations] = encode_deltas(anchors[locations], boxes, **model.coder)
    maps = []
    for x, width in ((logits, 3), (deltas, 4)):
        parts = x.split([len(a) for a in levels])
        maps.append([p.reshape(1, h, w, -1).permute(0, 3, 1, 2) for p, (h, w) in zip(parts, sizes, strict=True)])
        assert maps[-1][0].shape[1] == model.num_anchors * width
    return maps


def test_maps_that_say_the_targets_lose_nothing_and_give_back_the_ground_truth(monkeypatch):
    model, sample = head(), tiny.sample()
    logits, deltas = perfect_maps(model, sample)
    monkeypatch.setattr(model, "forward", lambda _: (logits, deltas))
    losses = model.loss(None, [sample])
    assert sum(losses["loss_cls"]) < 1e-3
    assert sum(losses["loss_box"]) < 1e-6
    found = model.predict(None, [sample])[0]["pred_instances"]
    assert len(found) == 2
    ground_truth = sample.gt_instances
    order = found.labels.argsort()
    torch.testing.assert_close(found.bboxes[order], ground_truth.bboxes, atol=1e-3, rtol=0)
    assert found.labels[order].tolist() == ground_truth.labels.tolist()


def test_the_loss_of_a_batch_is_that_of_a_loop_over_anchors():
    model, maps = head(), features(images=2)
    samples = [tiny.sample(), tiny.sample(boxes=(), labels=())]
    losses = model.loss(maps, samples)
    logits, deltas = model(maps)
    sizes, levels = model.anchors(logits)
    anchors = torch.cat(levels)
    class_sum = box_sum = 0.0
    positives = 0
    for i, sample in enumerate(samples):
        labels, locations, boxes, count = model.targets(anchors, sizes, sample)
        positives += max(int(count), 1)
        flat_logits = torch.cat([model.rows(x, 3)[i] for x in logits]).detach()
        flat_deltas = torch.cat([model.rows(x, 4)[i] for x in deltas])
        for n in range(len(anchors)):
            p = flat_logits[n].sigmoid()
            for k in range(3):
                pt = p[k] if labels[n] == k else 1 - p[k]
                alpha = 0.25 if labels[n] == k else 0.75
                class_sum -= float(alpha * (1 - pt) ** 2 * pt.log())
        wanted = encode_deltas(anchors[locations], boxes, **model.coder)
        box_sum += float((flat_deltas[locations] - wanted).abs().sum().detach())
    assert float(sum(losses["loss_cls"])) == pytest.approx(class_sum / positives, rel=1e-4)
    assert float(sum(losses["loss_box"])) == pytest.approx(box_sum / positives, rel=1e-4)


def test_ignored_regions_neither_help_nor_hurt():
    model, maps = head(assign=dict(ignore_iof=0.5)), features()
    sample, with_region = tiny.sample(), tiny.sample()
    with_region.ignored_instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 96.0, 64.0]]), labels=torch.tensor([0])
    )
    sizes, levels = model.anchors(maps)
    anchors = torch.cat(levels)
    labels = model.targets(anchors, sizes, with_region)[0]
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= 96) & (anchors[:, 3] <= 64)
    assert (labels[inside] == -1).float().mean() > 0.9
    assert model.loss(maps, [sample])["loss_cls"] != model.loss(maps, [with_region])["loss_cls"]


def test_anchors_in_the_padding_do_not_count():
    model, sample = head(), tiny.sample(size=(40, 50), boxes=((4, 4, 30, 30),), labels=(1,))
    sample.set_metainfo(dict(pad_shape=(64, 64)))
    sizes, levels = model.anchors(features(size=(64, 96)))
    labels = model.targets(torch.cat(levels), sizes, sample)[0][: 8 * 12 * 9].view(8, 12, 9)
    assert (labels[:, 8:] == -1).all()
    assert (labels[:, :8] >= 0).any()


def test_an_image_padded_by_its_batch_is_detected_as_alone():
    model = tiny.model_config()

    torch.manual_seed(0)
    net = MODELS.build(model | dict(head=dict(model["head"], test=dict(score_thr=0.009)))).eval()
    small, large = tiny.batch((64, 64), images=1), tiny.batch((64, 160), images=1)
    both = {key: small[key] + tiny.batch((64, 160), images=1)[key] for key in small}
    with torch.no_grad():
        alone, beside = net.val_step(small)[0], net.val_step(both)[0]
    assert len(alone.pred_instances) > 0
    assert (beside.pred_instances.bboxes[:, 2] <= 64).all()
    assert large["inputs"][0].shape[2] == 160


def test_unknown_options_and_unequal_channels_are_refused():
    with pytest.raises(ConfigError, match="score_thr"):
        head(test=dict(score_thresh=0.1))
    with pytest.raises(ConfigError, match="FPN"):
        RetinaNetHead((4, 8), (8, 16), num_classes=2)
