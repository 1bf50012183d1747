"""Losses of depth maps: mmsegmentation's numbers, plain loops over pixels, and what holds for any map."""

import math

import numpy as np
import pytest
import torch
from parity.case import read_case

import densevit.models  # noqa: F401
from densevit.errors import ConfigError
from densevit.models.losses.depth import DepthL1Loss, ScaleShiftInvariantLoss, SILogLoss
from densevit.registry import MODELS

CONFIGS = [
    dict(type="SILogLoss"),
    dict(type="SILogLoss", variance_focus=0.85, over="batch", loss_weight=10.0),
    dict(type="SILogLoss", variance_focus=1.0),
    dict(type="DepthL1Loss"),
    dict(type="ScaleShiftInvariantLoss"),
    dict(type="ScaleShiftInvariantLoss", alignment="median"),
]


def maps(seed: int = 0, size=(3, 13, 18)) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions above 0 and ground truth in meters, with holes, more of them in the second image."""
    random = torch.Generator().manual_seed(seed)
    ground_truth = torch.rand(size, generator=random) * 9 + 0.5
    prediction = ground_truth * torch.exp(0.4 * torch.randn(size, generator=random))
    share = torch.tensor([0.2, 0.7, 0.4])[:, None, None]
    ground_truth[torch.rand(size, generator=random) < share] = 0
    return prediction, ground_truth


def silog_by_loops(pairs, variance_focus: float) -> float:
    """The mean over lists of (prediction, ground truth) in pixels."""
    values = []
    for pixels in pairs:
        d = [math.log(p) - math.log(t) for p, t in pixels]
        values.append(math.sqrt(sum(x * x for x in d) / len(d) - variance_focus * (sum(d) / len(d)) ** 2))
    return sum(values) / len(values)


def counted(prediction, ground_truth) -> list[list[tuple[float, float]]]:
    return [
        [(p, t) for p, t in zip(image.flatten().tolist(), true.flatten().tolist(), strict=True) if t > 0]
        for image, true in zip(prediction, ground_truth, strict=True)
    ]


def test_silog_is_mmsegmentations(shared):
    case = read_case(shared / "parity", "mmseg_losses")
    raw, gap = case.inputs["depth_pred_raw"], case.inputs["depth_gt_raw"]
    depth = raw.abs() + 0.3
    ground_truth = torch.where(gap > -0.5, depth * (1 + 0.25 * gap).clamp(min=0.2), 0.0)
    loss = SILogLoss(loss_weight=10.0)
    each = torch.stack([loss(d[None], t[None]) for d, t in zip(depth, ground_truth, strict=True)])
    assert case.error("silog_none", each.numpy()) < 1e-6
    assert case.error("silog", SILogLoss()(depth, ground_truth).reshape(1).numpy()) < 1e-6


@pytest.mark.parametrize("variance_focus", [0.5, 0.85, 1.0])
def test_silog_is_that_of_loops_over_images_or_over_the_batch(variance_focus):
    prediction, ground_truth = maps()
    images = counted(prediction, ground_truth)
    apart = SILogLoss(variance_focus)(prediction, ground_truth)
    assert float(apart) == pytest.approx(silog_by_loops(images, variance_focus), rel=1e-5)
    together = SILogLoss(variance_focus, over="batch", loss_weight=10.0)(prediction, ground_truth)
    assert float(together) == pytest.approx(
        10 * silog_by_loops([[pixel for image in images for pixel in image]], variance_focus), rel=1e-5
    )
    assert abs(float(together) / 10 - float(apart)) > 1e-3  # the images hold unequal shares


def test_silog_of_a_depth_wrong_by_one_factor_is_what_the_formula_says():
    ground_truth = torch.rand(2, 6, 7) * 9 + 1
    for share in (0.0, 0.5, 0.85, 1.0):
        loss, expected = SILogLoss(share), math.sqrt(1 - share) * math.log(2)
        assert [float(loss(ground_truth * factor, ground_truth)) for factor in (0.5, 2.0)] == pytest.approx(
            [expected] * 2, abs=1e-3
        )
        assert float(loss(ground_truth, ground_truth)) == 0


def test_l1_is_the_mean_over_pixels_with_ground_truth():
    prediction, ground_truth = maps()
    pixels = [pixel for image in counted(prediction, ground_truth) for pixel in image]
    expected = sum(abs(p - t) for p, t in pixels) / len(pixels)
    assert float(DepthL1Loss(loss_weight=3.0)(prediction, ground_truth)) == pytest.approx(3 * expected, rel=1e-5)


def ssi_by_loops(prediction, ground_truth, alignment: str, gradient_weight: float, scales: int) -> float:
    """The definition, image by image and pixel by pixel, in double precision."""
    total, gradients, count, counts = 0.0, [0.0] * scales, 0, [0] * scales
    for image, true in zip(prediction.double().numpy(), ground_truth.double().numpy(), strict=True):
        valid = true > 0
        p, t = image[valid], 1 / true[valid]
        if alignment == "least_squares":
            (scale, shift), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)
            aligned, wanted = scale * image + shift, np.where(valid, 1 / np.where(valid, true, 1), 0)
        else:

            def normed(values, of):
                middle = np.sort(of)[(len(of) - 1) // 2]
                return (values - middle) / np.abs(of - middle).mean()

            aligned, wanted = normed(image, p), normed(1 / np.where(valid, true, 1), t)
        rest = aligned - wanted
        height, width = valid.shape
        for y in range(height):
            for x in range(width):
                if valid[y, x]:
                    count += 1
                    total += abs(rest[y, x]) if alignment == "median" else rest[y, x] ** 2 / 2
        for k in range(scales):
            step = 2**k
            for y in range(0, height, step):
                for x in range(0, width, step):
                    counts[k] += int(valid[y, x])
                    for v, u in ((y + step, x), (y, x + step)):
                        if v < height and u < width and valid[y, x] and valid[v, u]:
                            gradients[k] += abs(rest[v, u] - rest[y, x])
    return total / count + gradient_weight * sum(g / n for g, n in zip(gradients, counts, strict=True))


@pytest.mark.parametrize("alignment", ["least_squares", "median"])
@pytest.mark.parametrize(("gradient_weight", "scales"), [(0.0, 4), (0.5, 4), (2.0, 2)])
def test_scale_shift_invariant_loss_is_that_of_loops(alignment, gradient_weight, scales):
    prediction, ground_truth = maps(1)
    prediction = prediction - 3  # inverse depth up to a shift may be below 0
    found = ScaleShiftInvariantLoss(alignment, gradient_weight, scales)(prediction, ground_truth)
    assert float(found) == pytest.approx(
        ssi_by_loops(prediction, ground_truth, alignment, gradient_weight, scales), rel=1e-4
    )


@pytest.mark.parametrize("alignment", ["least_squares", "median"])
def test_scale_and_shift_of_each_image_change_nothing(alignment):
    prediction, ground_truth = maps(2)
    loss = ScaleShiftInvariantLoss(alignment)
    moved = prediction * torch.tensor([3.0, 0.2, 40.0])[:, None, None] + torch.tensor([1.0, -2, 30])[:, None, None]
    assert float(loss(moved, ground_truth)) == pytest.approx(float(loss(prediction, ground_truth)), rel=1e-3)
    perfect = 5 / ground_truth.clamp(min=0.1) + 2
    assert float(loss(perfect, ground_truth)) < 1e-4 < float(loss(prediction, ground_truth))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_pixels_and_images_without_ground_truth_count_nowhere(config):
    loss, (prediction, ground_truth) = MODELS.build(config), maps()
    before = float(loss(prediction, ground_truth))
    changed = torch.where(ground_truth > 0, prediction, 1e4).requires_grad_()
    assert float(loss(changed, ground_truth).detach()) == pytest.approx(before, rel=1e-6)
    loss(changed, ground_truth).backward()
    assert (changed.grad[ground_truth == 0] == 0).all() and (changed.grad[ground_truth > 0] != 0).any()
    ground_truth = ground_truth.clone()
    ground_truth[1] = 0
    prediction.requires_grad_()
    part = loss(prediction, ground_truth)
    part.backward()
    assert part.isfinite() and part > 0 and prediction.grad.isfinite().all() and (prediction.grad[1] == 0).all()
    prediction.grad = None
    nothing = loss(prediction, torch.zeros_like(ground_truth))
    nothing.backward()
    assert nothing == 0 and (prediction.grad == 0).all()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_flat_and_perfect_predictions_have_finite_gradients(config):
    loss, (_, ground_truth) = MODELS.build(config), maps()
    for prediction in (torch.full_like(ground_truth, 2.0), ground_truth.clamp(min=0.5), torch.zeros_like(ground_truth)):
        prediction = prediction.clone().requires_grad_()
        found = loss(prediction, ground_truth)
        found.backward()
        assert found.isfinite() and prediction.grad.isfinite().all()
        assert prediction.grad.abs().max() < 1e4


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_half_precision_is_computed_in_float32(config):
    loss, (prediction, ground_truth) = MODELS.build(config), maps()
    half = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(half, ground_truth)
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(loss(half.detach().float(), ground_truth)), rel=1e-6)
    found.backward()
    assert half.grad.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_gradients_are_those_of_finite_differences(config):
    loss, (prediction, ground_truth) = MODELS.build(config), maps(3, (3, 9, 9))
    prediction.requires_grad_()
    loss(prediction, ground_truth).backward()
    direction = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(0))
    step, slope = 1e-3, float((prediction.grad * direction).sum())
    with torch.no_grad():
        ahead, behind = (float(loss(prediction + sign * step * direction, ground_truth)) for sign in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=0.05, abs=2e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_prediction_that_is_no_number_is_not_hidden(config):
    prediction, ground_truth = maps()
    prediction[0][ground_truth[0] > 0] = torch.nan
    loss = MODELS.build(config)
    assert (
        not loss(prediction, ground_truth).isfinite()
        and loss(prediction, ground_truth.where(~prediction.isnan(), 0)).isfinite()
    )


def test_every_loss_has_the_name_that_it_is_reported_under():
    assert [MODELS.build(config).name for config in CONFIGS] == [
        *["loss_silog"] * 3, "loss_l1", *["loss_ssi"] * 2,
    ]  # fmt: skip


def test_unknown_options_are_named():
    with pytest.raises(ConfigError, match="over='pixels': choose from image, batch"):
        MODELS.build(dict(type="SILogLoss", over="pixels"))
    with pytest.raises(ConfigError, match="alignment='mean': choose from least_squares, median"):
        MODELS.build(dict(type="ScaleShiftInvariantLoss", alignment="mean"))
    with pytest.raises(ConfigError, match=r"variance_focus .* not 1.5"):
        MODELS.build(dict(type="SILogLoss", variance_focus=1.5))
