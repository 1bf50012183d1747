"""Winograd's form gives the plain convolution's numbers in every size of map, and is not taken where it may not."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from densevit.kernels import winograd
from densevit.kernels.conv import Conv2d


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 9), (17, 22), (64, 48)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_convolution(size, batch, bias):
    torch.manual_seed(0)
    x, weight = torch.randn(batch, 24, *size), torch.randn(40, 24, 3, 3)
    b = torch.randn(40) if bias else None
    wanted = F.conv2d(x.double(), weight.double(), None if b is None else b.double(), padding=1)
    for memory in (torch.contiguous_format, torch.channels_last):
        found = winograd.winograd(x.contiguous(memory_format=memory), weight.contiguous(memory_format=memory), b)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() / wanted.abs().max() < 2e-5


def test_the_strips_join_without_a_seam(monkeypatch):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 16, 37, 21), torch.randn(16, 16, 3, 3)
    whole = winograd.winograd(x, weight)
    monkeypatch.setattr(winograd, "STRIP", 1)  # a row of tiles at a time
    torch.testing.assert_close(winograd.winograd(x, weight), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(48, 52), (47, 50)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_plain_convolution(size, bias):
    torch.manual_seed(0)
    conv = Conv2d(128, 160, 3, padding=1, bias=bias)
    x = torch.randn(2, 128, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert winograd.winograd_is_faster(x, conv.weight)
    inputs, wanted = (x, *conv.parameters()), F.conv2d(x, conv.weight, conv.bias, padding=1)
    toward = torch.randn_like(wanted)
    expected = torch.autograd.grad((wanted * toward).sum(), inputs)
    for a, b in zip(torch.autograd.grad((conv(x).mul_(1) * toward).sum(), inputs), expected, strict=True):
        assert (a - b).abs().max() / b.abs().max() < 2e-5
    conv.weight.requires_grad_(False)
    (of_x,) = torch.autograd.grad((conv(x) * toward).sum(), x)
    assert (of_x - expected[0]).abs().max() / expected[0].abs().max() < 2e-5


@pytest.mark.parametrize("batch", [1, 2])
def test_the_outcome_may_be_changed_in_place_at_any_size(batch):
    """Every remainder of height and width by the tile's 4: with gradients, without, and in inference mode."""
    torch.manual_seed(0)
    conv = Conv2d(128, 128, 3, padding=1)
    for height, width in itertools.product(range(48, 52), range(48, 52)):
        x = torch.randn(batch, 128, height, width, requires_grad=True)
        assert winograd.winograd_is_faster(x, conv.weight)
        inputs, plain = (x, *conv.parameters()), F.conv2d(x, conv.weight, conv.bias, padding=1)
        mask = plain.detach().abs() > 1e-3  # where rounding does not decide what a ReLU lets through
        expected = torch.autograd.grad((plain.relu() * mask).sum(), inputs)
        for a, b in zip(torch.autograd.grad((conv(x).relu_() * mask).sum(), inputs), expected, strict=True):
            assert (a - b).abs().max() / b.abs().max() < 2e-5
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                found = conv(x).relu_()
            torch.testing.assert_close(found, plain.relu(), rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            found = conv(x)
        found.mul_(conv.bias[:, None, None]).sum().backward()  # made without gradients, changed with them
        conv.zero_grad()


def test_an_empty_batch_has_an_empty_outcome():
    conv, x = Conv2d(128, 128, 3, padding=1), torch.randn(0, 128, 49, 48, requires_grad=True)
    found = conv(x).relu_()
    found.sum().backward()
    assert found.shape == x.shape and not conv.weight.grad.any()


def test_is_taken_by_large_convolutions_in_float32(monkeypatch):
    taken = []
    plain = winograd.winograd
    monkeypatch.setattr(winograd, "winograd", lambda *given: taken.append(1) or plain(*given))
    conv, x = Conv2d(128, 128, 3, padding=1), torch.randn(1, 128, 48, 48)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        conv(x)
        conv(x[:, :, :6, :6])
    assert not taken
    with torch.no_grad():
        found = conv(x)
    assert taken
    torch.testing.assert_close(found, F.conv2d(x, conv.weight, conv.bias, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changed", [dict(stride=2), dict(dilation=2), dict(padding=0), dict(groups=2)])
def test_other_convolutions_stay_as_torch_has_them(changed):
    torch.manual_seed(0)
    conv = Conv2d(128, 128, 3, **{"padding": 1, **changed})
    plain = torch.nn.Conv2d(128, 128, 3, **{"padding": 1, **changed})
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(1, 128, 48, 48)
    with torch.no_grad():
        assert torch.equal(conv(x), plain(x))
