import torch
from parity_parts import read_case

from densevit.models.losses.detection import box_regression_loss, sigmoid_focal_loss


def test_focal_loss_is_cross_entropy_at_gamma_zero_and_falls_for_easy_places():
    logits = torch.tensor([[3.0, -2.0]])
    target = torch.tensor([0])
    plain = sigmoid_focal_loss(logits, target, gamma=0.0, alpha=0.5)
    want = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0.0]]), reduction="none")
    torch.testing.assert_close(plain, want * 0.5)
    assert (sigmoid_focal_loss(logits, target) < plain).all()


def test_background_is_the_class_after_the_last():
    loss = sigmoid_focal_loss(torch.full((1, 3), -20.0), torch.tensor([3]))
    assert loss.max() < 1e-6


def test_losses_equal_mmdetection(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    x = case.inputs
    focal = sigmoid_focal_loss(x["logits"], x["target"].long()) * x["weight"][:, None]
    assert case.error("focal_none", focal) < 1e-5
    assert case.error("focal_avg", focal.sum() / 37) < 1e-5

    def box(beta):
        return (box_regression_loss(x["pred4"], x["target4"], beta) * x["weight4"]).sum() / 37

    assert case.error("l1_avg", box(0.0)) < 1e-5
    assert case.error("smooth_l1_avg", torch.stack([box(1.0), box(1 / 9)])) < 1e-5
