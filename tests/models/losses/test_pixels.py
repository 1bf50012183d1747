import math

import pytest
import torch

from densevit.models.losses.balance import UncertaintyBalance
from densevit.models.losses.pixels import pixel_cross_entropy, silog_loss


def test_cross_entropy_is_the_mean_over_the_pixels_that_have_a_class():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5))
    target[0, 0, :] = 255
    log_p = logits.log_softmax(1)
    by_hand = [
        -log_p[b, target[b, y, x], y, x] for b in range(2) for y in range(3) for x in range(5) if target[b, y, x] != 255
    ]
    torch.testing.assert_close(pixel_cross_entropy(logits, target), torch.stack(by_hand).mean())


def test_a_batch_without_a_class_costs_nothing():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_silog_of_a_depth_wrong_by_one_factor_is_what_the_formula_says():
    truth = torch.rand(2, 6, 7) * 9 + 1
    for factor in (0.5, 2.0):
        expected = math.sqrt(0.5) * abs(math.log(factor))  # sqrt(d^2 - d^2 / 2)
        assert float(silog_loss(truth * factor, truth)) == pytest.approx(expected, rel=1e-4)
    assert float(silog_loss(truth, truth)) == pytest.approx(1e-3, rel=1e-3)  # the root of eps


def test_silog_leaves_pixels_without_truth_out():
    truth = torch.rand(1, 4, 4) + 1
    truth[0, :2] = 0
    depth = truth * 1.5
    depth[0, :2] = 77.0
    depth.requires_grad_()
    loss = silog_loss(depth, truth)
    loss.backward()
    assert float(loss) == pytest.approx(math.sqrt(0.5) * math.log(1.5), rel=1e-4)
    assert (depth.grad[0, :2] == 0).all()
    empty = silog_loss(depth, torch.zeros(1, 4, 4))
    assert float(empty) == pytest.approx(1e-3)
    empty.backward()
    assert depth.grad.isfinite().all()


def test_learned_weights_settle_where_every_head_pulls_alike():
    balance = UncertaintyBalance(("near", "far"))
    losses = {"near": {"loss_a": [torch.tensor(3.0), torch.tensor(1.0)]}, "far": {"loss_b": torch.tensor(0.05)}}
    first = balance(losses)
    assert [float(v) for v in first["near"]["loss_a"]] == [3.0, 1.0]  # s begins at 0
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(400):
        weighed = balance(losses)
        total = sum(sum(v) if isinstance(v, list) else v for part in weighed.values() for v in part.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    weighed = balance(losses)
    assert sum(weighed["near"]["loss_a"]).item() == pytest.approx(1, abs=0.02)
    assert weighed["far"]["loss_b"].item() == pytest.approx(1, abs=0.02)
