import math

import pytest
import torch
from parity.case import read_case

from densevit.ops.boxes import MAX_LOG_RATIO, clip_boxes, decode_deltas, encode_deltas, pairwise_iof, pairwise_iou

PLAIN = dict(means=(0.0, 0.0, 0.0, 0.0), stds=(1.0, 1.0, 1.0, 1.0))


def random_boxes(n, seed=0, side=100.0):
    corner = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * side
    return torch.cat((corner, corner + 1 + corner.flip(1) * 0.3), dim=1)


def test_iou_equals_counted_pixels():
    a = torch.tensor([[0, 0, 4, 4], [2, 1, 7, 5]])
    b = torch.tensor([[1, 1, 5, 3], [8, 8, 9, 9]])

    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            shared, union = len(pixels(p) & pixels(q)), len(pixels(p) | pixels(q))
            assert pairwise_iou(a.float(), b.float())[i, j] == pytest.approx(shared / union)
            assert pairwise_iof(a.float(), b.float())[i, j] == pytest.approx(shared / len(pixels(p)))


def test_decoding_undoes_encoding():
    anchors, boxes = random_boxes(50), random_boxes(50, seed=1)
    coder = dict(means=(0.1, -0.2, 0.0, 0.3), stds=(0.1, 0.1, 0.2, 0.2))
    deltas = encode_deltas(anchors, boxes, **coder)
    torch.testing.assert_close(decode_deltas(anchors, deltas, **coder), boxes, rtol=1e-4, atol=1e-3)


def test_a_box_grows_at_most_by_the_clip_ratio():
    anchor = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    box = decode_deltas(anchor, torch.tensor([[0.0, 0.0, 50.0, -50.0]]), **PLAIN)[0]
    assert box[2] - box[0] == pytest.approx(2 * 62.5, rel=1e-5)
    assert box[3] - box[1] == pytest.approx(2 / 62.5, rel=1e-5)
    assert pytest.approx(4.135, abs=1e-3) == MAX_LOG_RATIO


def test_decoding_nothing_gives_nothing():
    assert decode_deltas(torch.zeros(0, 4), torch.zeros(0, 4), **PLAIN, shape=(5, 5)).shape == (0, 4)


def test_clipping_keeps_inside_and_order():
    clipped = clip_boxes(torch.tensor([[-3.0, 2.0, 50.0, 90.0]]), (40, 30))
    assert clipped.tolist() == [[0.0, 2.0, 30.0, 40.0]]


def test_coder_equals_mmdetection(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    x, coders = case.inputs, case.model["coders"].values()
    args = [dict(means=c["target_means"], stds=c["target_stds"]) for c in coders]
    encoded = [encode_deltas(x["code_boxes"], x["code_targets"], **a) for a in args]
    clipped = [decode_deltas(x["code_boxes"], x["code_deltas"], **a, shape=(240, 320)) for a in args]
    free = [decode_deltas(x["code_boxes"], x["code_deltas"], **a) for a in args]
    assert case.error("encode", torch.stack(encoded)) < 1e-5
    assert case.error("decode_clipped", torch.stack(clipped)) < 1e-5
    assert case.error("decode_free", torch.stack(free)) < 1e-5
    stds = case.model["coders"]["rcnn"]["target_stds"]
    by_class = decode_deltas(x["code_boxes"], x["code_deltas_by_class"], PLAIN["means"], stds, (240, 320))
    assert case.error("decode_by_class", by_class) < 1e-5


def test_boxes_shrink_without_limit_where_asked_and_never_grow_without():
    anchor, deltas = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([[0.0, 0.0, -9.0, 9.0]])
    plain = dict(means=(0.0,) * 4, stds=(1.0,) * 4)
    for limit, width in ((True, 100 * 16 / 1000), (False, 100 * math.exp(-9))):
        box = decode_deltas(anchor, deltas, **plain, limit_shrink=limit)[0]
        assert float(box[2] - box[0]) == pytest.approx(width, rel=1e-3)
        assert float(box[3] - box[1]) == pytest.approx(100 * 1000 / 16, rel=1e-4)
