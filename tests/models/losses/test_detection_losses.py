import torch
import torchvision
from parity.case import read_case

from densevit.models.losses.detection import (
    box_regression_loss,
    class_loss,
    giou_loss,
    mask_loss,
    object_loss,
    sigmoid_focal_loss,
)


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


def test_losses_of_two_stages_equal_mmdetection(shared):
    case = read_case(shared / "parity", "mmdet_loss_parts")
    x = case.inputs
    classes = class_loss(x["logits10"], x["target"].long()) * x["weight"]
    assert case.error("ce_avg", classes.sum() / 37) < 1e-5
    is_object = x["target"] != 9  # mmdetection's RPN has label 0 for objects and 1 for background
    objects = object_loss(x["logits1"].reshape(-1), is_object) * x["weight"]
    assert case.error("bce_rpn_avg", objects.sum() / 250) < 1e-5


def test_the_mask_loss_is_the_mean_over_pixels_and_zero_without_masks():
    logits, target = torch.randn(3, 5, 5), (torch.rand(3, 5, 5) > 0.5).float()
    probability = logits.sigmoid()
    by_hand = -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()
    torch.testing.assert_close(mask_loss(logits, target), by_hand)
    empty = torch.zeros(0, 5, 5, requires_grad=True)
    loss = mask_loss(empty, empty.detach())
    loss.backward()
    assert loss == 0


def test_masks_that_do_not_count_move_no_mask_loss():
    logits, target = torch.randn(3, 5, 5, requires_grad=True), (torch.rand(3, 5, 5) > 0.5).float()
    loss = mask_loss(logits, target, torch.tensor([True, False, True]))
    torch.testing.assert_close(loss, mask_loss(logits[::2], target[::2]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[1].any() and gradient[0].any()
    assert mask_loss(logits, target, torch.zeros(3, dtype=torch.bool)) == 0


def test_the_overlap_loss_equals_torchvisions_and_has_a_gradient_for_boxes_apart():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 50, 2, generator=generator) * 40
    pred, target = torch.cat((corner, corner + torch.rand(2, 50, 2, generator=generator) * 40 + 1), -1)
    pred.requires_grad_()
    want = torchvision.ops.generalized_box_iou_loss(pred, target)
    torch.testing.assert_close(giou_loss(pred, target), want, rtol=1e-5, atol=1e-6)
    apart = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    giou_loss(apart, torch.tensor([[100.0, 0.0, 110.0, 10.0]])).sum().backward()
    assert apart.grad.abs().sum() > 0


def test_the_slope_of_the_focal_loss_is_that_of_its_values():
    logits, target = torch.randn(7, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 4, 5, 2, 5, 1, 3])
    for alpha in (0.25, torch.rand(5, dtype=torch.float64)):
        for gamma in (0.0, 1.5, 2.0):
            assert torch.autograd.gradcheck(lambda x, g=gamma, a=alpha: sigmoid_focal_loss(x, target, g, a), logits)
