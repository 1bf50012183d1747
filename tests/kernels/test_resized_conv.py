"""A convolution over resized maps equals resizing, joining and convolving, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevit.kernels.resized_conv import conv_of_resized
from densevit.models.necks.upernet import UPerNet
from densevit.ops.caching import by_bytes

SIZE = (13, 22)


def plain(conv, maps, size, align_corners):
    resized = [F.interpolate(x, size, mode="bilinear", align_corners=align_corners) for x in maps]
    return conv(torch.cat(resized, dim=1))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize(
    "sizes",
    [(SIZE, (7, 11), (4, 6), (1, 1)), ((7, 11), (20, 30)), (SIZE, SIZE)],
    ids=["a pyramid", "none of the size", "all of the size"],
)
def test_values_and_gradients_are_those_of_resize_join_and_convolve(sizes, taps, align_corners):
    torch.manual_seed(0)
    conv = nn.Conv2d(3 * len(sizes), 5, taps, padding=taps // 2).double()
    maps = [torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True) for size in sizes]
    want, got = plain(conv, maps, SIZE, align_corners), conv_of_resized(conv, maps, SIZE, align_corners)
    weight = torch.randn_like(want)
    torch.testing.assert_close(got, want)
    inputs = [*maps, *conv.parameters()]
    for a, b in zip(torch.autograd.grad(got, inputs, weight), torch.autograd.grad(want, inputs, weight), strict=True):
        torch.testing.assert_close(a, b)


def test_a_matrix_first_made_for_a_prediction_serves_a_training_step():
    by_bytes.clear()
    conv, maps = nn.Conv2d(4, 3, 3, padding=1), [torch.randn(1, 4, 3, 5)]
    with torch.inference_mode():
        conv_of_resized(conv, maps, (6, 10), False)
    conv_of_resized(conv, maps, (6, 10), False).sum().backward()
    assert conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("training", [False, True])
def test_upernet_gives_what_its_plain_formula_gives(training):
    torch.manual_seed(0)
    channels = (6, 8, 10, 12)
    neck = UPerNet(channels, (4, 8, 16, 32), channels=16).train(training)
    features = [torch.randn(2, c, -(-90 // s), -(-70 // s)) for c, s in zip(channels, (4, 8, 16, 32), strict=True)]
    got = neck(features)[0]

    def joined(block, maps, size):
        return block(torch.cat([F.interpolate(x, size, mode="bilinear") for x in maps], dim=1))

    pooled = [
        conv(F.adaptive_avg_pool2d(features[3], n)) for n, conv in zip((1, 2, 3, 6), neck.pooled_convs, strict=True)
    ]
    x = joined(neck.bottleneck, [features[3], *pooled], features[3].shape[2:])
    maps = [x]
    for i in (2, 1, 0):
        size = features[i].shape[2:]
        x = neck.lateral_convs[i](features[i]) + F.interpolate(x, size, mode="bilinear")
        maps.append(neck.fpn_convs[i](x))
    want = joined(neck.fusion, maps[::-1], features[0].shape[2:])
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
