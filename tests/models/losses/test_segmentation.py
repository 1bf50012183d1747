"""Losses of class maps: mmsegmentation's numbers, and what holds for any map."""

import pytest
import torch
import torch.nn.functional as F
from parity.case import read_case

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.models.losses.multi_task import UncertaintyWeighting
from densevit.models.losses.segmentation import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
)
from densevit.registry import MODELS

WEIGHTS = [0.5, 1.057, 1.614, 0.871, 1.429, 0.686, 1.243]
ALPHAS = [0.2, 0.286, 0.371, 0.457, 0.543, 0.629, 0.714]
REFERENCE = {
    "ce": (CrossEntropyLoss(avg_non_ignore=False), "label"),
    "ce_avg_non_ignore": (CrossEntropyLoss(loss_weight=0.4), "label"),
    "ce_class_weight": (CrossEntropyLoss(avg_non_ignore=False, class_weight=WEIGHTS), "label_full"),
    "ce_class_weight_ignore": (
        CrossEntropyLoss(avg_non_ignore=False, class_weight=WEIGHTS, ignore_index=2),
        "label_full",
    ),
    "ce_class_weight_non_ignore": (CrossEntropyLoss(class_weight=WEIGHTS, ignore_index=2), "label_full"),
    "bce": (BinaryCrossEntropyLoss(), "label"),
    "ohem_thresh_ce": (CrossEntropyLoss(avg_non_ignore=False, ohem=dict(thresh=0.2, min_kept=270)), "label"),
    "ohem_loss_ce": (CrossEntropyLoss(avg_non_ignore=False, ohem=dict(min_kept=270)), "label"),
    "dice_sigmoid": (DiceLoss(probability="sigmoid", avg_non_ignore=False), "label"),
    "dice_softmax": (DiceLoss(avg_non_ignore=False), "label"),
    "dice_naive": (DiceLoss(avg_non_ignore=False, squared=False, loss_weight=3.0), "label"),
    "dice_ignore0": (DiceLoss(avg_non_ignore=False, left_out=0), "label"),
    "focal_onehot": (FocalLoss(alpha=0.25, ignore_index=None), "label"),
    "focal_onehot_alpha": (
        FocalLoss(gamma=1.5, alpha=ALPHAS, class_weight=WEIGHTS, loss_weight=2.0, ignore_index=None),
        "label",
    ),
    "focal_index": (FocalLoss(avg_non_ignore=False), "label"),
}
WITHOUT_A_MEAN = {"ce_none", "ce_class_weight_none", "dice_none"}
OHEM_WEIGHTS = {
    "ohem_thresh_weight": dict(thresh=0.2, min_kept=270),
    "ohem_loss_weight": dict(min_kept=270),
    "ohem_thresh_low_weight": dict(thresh=1e-05, min_kept=270),
}


@pytest.fixture(scope="module")
def case(shared):
    return read_case(shared / "parity", "mmseg_losses")


def test_every_stored_output_is_compared_somewhere_here(case):
    """All but a metric that is no loss, the accuracy, and those of depth, for which test_depth.py is."""
    compared = set(REFERENCE) | set(OHEM_WEIGHTS) | WITHOUT_A_MEAN | {"silog", "silog_none", "accuracy"}
    assert set(case.outputs) <= compared


@pytest.mark.parametrize("name", REFERENCE)
def test_losses_equal_mmsegmentations(case, name):
    loss, label = REFERENCE[name]
    found = loss(case.inputs["logits"], case.inputs[label].long())
    assert case.error(name, found.reshape(1).numpy()) < 1e-6


@pytest.mark.parametrize("name", OHEM_WEIGHTS)
def test_the_hard_pixels_are_mmsegmentations(case, name):
    logits, ground_truth = case.inputs["logits"], case.inputs["label"].long()
    loss = CrossEntropyLoss(ohem=OHEM_WEIGHTS[name])
    values = F.cross_entropy(logits, ground_truth, ignore_index=255, reduction="none")
    found = loss.hard(logits, ground_truth, values, loss.known(ground_truth, logits.shape[1]))
    assert case.error(name, found.float().numpy()) == 0
    assert 0 < found.sum() < found.numel()


@pytest.mark.parametrize(("name", "weights"), [("ce_none", None), ("ce_class_weight_none", WEIGHTS)])
def test_each_pixel_costs_what_it_costs_in_mmsegmentation(case, name, weights):
    logits, ground_truth = case.inputs["logits"], case.inputs["label"].long()
    loss = CrossEntropyLoss(avg_non_ignore=False, class_weight=weights)
    apart = torch.zeros(ground_truth.shape)
    for b, y, x in torch.nonzero(torch.ones_like(ground_truth)).tolist():
        pixel = ground_truth[b : b + 1, y : y + 1, x : x + 1]
        known = pixel != 255
        # with weights a mean is divided by the pixel's own
        factor = 1 if weights is None or not known else weights[int(pixel)]
        apart[b, y, x] = factor * loss(logits[b : b + 1, :, y : y + 1, x : x + 1], pixel)
    assert case.error(name, apart.numpy()) < 1e-6


def test_dice_of_each_image_is_mmsegmentations(case):
    dice = DiceLoss(avg_non_ignore=False).of_images(case.inputs["logits"], case.inputs["label"].long())
    assert case.error("dice_none", dice.numpy()) < 1e-6


def test_cross_entropy_is_the_mean_over_the_pixels_that_have_a_class():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5))
    target[0, 0, :] = 255
    log_p = logits.log_softmax(1)
    by_hand = [
        -log_p[b, target[b, y, x], y, x] for b in range(2) for y in range(3) for x in range(5) if target[b, y, x] != 255
    ]
    torch.testing.assert_close(CrossEntropyLoss()(logits, target), torch.stack(by_hand).mean())


EVERY_LOSS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(avg_non_ignore=False),
    CrossEntropyLoss(class_weight=[1.0, 2.0, 3.0]),
    CrossEntropyLoss(ohem=dict(thresh=0.7, min_kept=10)),
    CrossEntropyLoss(ohem=dict(min_kept=10)),
    BinaryCrossEntropyLoss(),
    DiceLoss(),
    DiceLoss(probability="sigmoid", squared=False, left_out=1),
    FocalLoss(),
]


@pytest.mark.parametrize("loss", EVERY_LOSS[:6] + EVERY_LOSS[8:], ids=lambda loss: type(loss).__name__)
def test_a_batch_without_a_class_costs_nothing(loss):
    logits = torch.randn(1, 3, 4, 5, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 5), 255))
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


# all but the one that counts all pixels, and the one that takes so many an image
OF_THE_KNOWN = [loss for i, loss in enumerate(EVERY_LOSS) if i not in (1, 4)]


@pytest.mark.parametrize("loss", OF_THE_KNOWN, ids=lambda loss: type(loss).__name__)
def test_ignored_pixels_move_no_loss_that_is_averaged_over_the_known(loss):
    torch.manual_seed(0)
    logits, ground_truth = torch.randn(2, 3, 6, 7), torch.randint(0, 3, (2, 6, 7))
    ground_truth[:, 4:] = 255
    other = logits.clone().masked_fill_((ground_truth == 255)[:, None], 3.0).requires_grad_()
    value = loss(other, ground_truth)
    value.backward()
    torch.testing.assert_close(value, loss(logits, ground_truth))
    assert (other.grad[(ground_truth == 255)[:, None].expand_as(logits)] == 0).all()
    torch.testing.assert_close(value.detach(), loss(logits[:, :, :4], ground_truth[:, :4]))


@pytest.mark.parametrize("value", [3, 254, -1, 1000])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)
def test_values_that_are_no_class_are_ignored_as_255_is(loss, value):
    torch.manual_seed(0)
    ground_truth, logits, results = torch.randint(0, 3, (2, 6, 7)), torch.randn(2, 3, 6, 7), []
    ground_truth[:, 4:] = 255
    for some in (ground_truth, ground_truth.where(ground_truth != 255, value)):
        x = logits.clone().requires_grad_()
        found = loss(x, some)
        results.append((found.detach(), *torch.autograd.grad(found, x)))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("value", [3, 254, -1])
def test_a_value_that_is_no_class_costs_nothing_even_where_no_value_is_to_be_ignored(value):
    ground_truth, logits = torch.tensor([[[0, 1, value]]]), torch.randn(1, 3, 1, 3)
    loss = CrossEntropyLoss(ignore_index=None)
    torch.testing.assert_close(loss(logits, ground_truth), loss(logits[..., :2], ground_truth[..., :2]))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)
def test_right_answers_cost_next_to_nothing_and_wrong_ones_more(loss):
    ground_truth = torch.arange(3).repeat(2, 4, 2)
    right = F.one_hot(ground_truth, 3).movedim(-1, 1) * 40.0 - 20
    assert float(loss(right, ground_truth)) < 1e-3
    assert float(loss(right.roll(1, dims=1), ground_truth)) > 0.3


def test_dice_is_one_minus_twice_the_overlap_by_the_sums():
    torch.manual_seed(0)
    logits, ground_truth = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 5, 4))
    p, one_hot = logits.softmax(1), F.one_hot(ground_truth, 3).movedim(-1, 1).float()
    images = [1 - 2 * (a * b).sum() / ((a * a).sum() + (b * b).sum()) for a, b in zip(p, one_hot, strict=True)]
    torch.testing.assert_close(DiceLoss(eps=1e-9)(logits, ground_truth), torch.stack(images).mean())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (dict(type="CrossEntropyLoss", ohem=dict(tresh=0.7)), r"no key 'tresh' \(nearest: 'thresh'\)"),
        (dict(type="DiceLoss", probability="relu"), "probability='relu'"),
    ],
)
def test_unknown_options_are_named(config, said):
    with pytest.raises(ConfigError, match=said):
        MODELS.build(config)


def test_learned_weights_settle_where_every_head_pulls_alike():
    balance = UncertaintyWeighting(("near", "far"))
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
