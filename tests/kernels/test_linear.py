"""A linear layer gives torch's numbers and gradients whichever kernel it takes."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevit.kernels import linear as room
from densevit.kernels.linear import apply_linear
from densevit.models.backbones.swin import Swin
from densevit.models.layers.block import Mlp


@pytest.fixture(params=["small", "large"])
def kernels(request, monkeypatch):
    """Both ways: the bounds as they are, and without them."""
    if request.param == "large":
        monkeypatch.setattr(room, "LARGE", 0)
        monkeypatch.setattr(room, "LARGE_TRAINED", 0)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("shape", [(2, 5, 12), (7, 12), (12,), (1, 3, 4, 12)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_values_and_gradients_are_those_of_torch(shape, bias, gelu):
    torch.manual_seed(0)
    layer = nn.Linear(12, 16, bias)
    x = torch.randn(shape, requires_grad=True)
    wanted = F.linear(x, layer.weight, layer.bias)
    wanted = F.gelu(wanted) if gelu else wanted
    found = apply_linear(layer, x, gelu)
    assert found.shape == wanted.shape and found.is_contiguous()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    inputs = (x, *layer.parameters())
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(wanted.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(apply_linear(layer, x, gelu), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_rows_that_do_not_follow_one_another_in_memory():
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 16), torch.randn(3, 12, 5).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(apply_linear(layer, x), F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_no_rows_and_autocast():
    layer = nn.Linear(12, 16)
    with torch.no_grad():
        assert apply_linear(layer, torch.randn(0, 12), gelu=True).shape == (0, 16)
        with torch.autocast("cpu", torch.bfloat16):
            assert apply_linear(layer, torch.randn(3, 12), gelu=True).dtype == torch.bfloat16


def test_an_mlp_and_windows_in_parts_give_what_they_give_whole(monkeypatch):
    torch.manual_seed(0)
    mlp, x = Mlp(12, 48), torch.randn(2, 55, 12)
    swin = Swin(dict(embed_dim=12, depths=(2,), num_heads=(3,), mlp_ratio=4), out_indices=(0,)).eval()
    images = torch.randn(2, 3, 90, 71)
    with torch.no_grad():
        wanted, maps = mlp(x, (5, 11)), swin(images)
        monkeypatch.setattr(room, "NUMBERS", 48 * 7)  # seven tokens or one window at a time
        torch.testing.assert_close(mlp(x, (5, 11)), wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(swin(images)[0], maps[0], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_hooks_of_a_layer_and_what_takes_its_place_are_called():
    layer, seen, x = nn.Linear(12, 16), [], torch.randn(3, 12)
    handle = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    apply_linear(layer, x)
    handle.remove()
    apply_linear(layer, x)
    assert len(seen) == 1
    torch.testing.assert_close(apply_linear(nn.Sequential(layer, nn.ReLU()), x), layer(x).relu())


def test_dynamic_quantization_finds_the_linear_layers():
    torch.manual_seed(0)
    model = Swin(dict(embed_dim=24, depths=(2, 2), num_heads=(3, 6), mlp_ratio=4), out_indices=(0, 1)).eval()
    images, layers = torch.randn(1, 3, 45, 64), sum(type(m) is nn.Linear for m in model.modules())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model(images)
        quantized = torch.ao.quantization.quantize_dynamic(model)
        found = quantized(images)
    assert sum(type(m) is torch.ao.nn.quantized.dynamic.Linear for m in quantized.modules()) == layers > 10
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()
