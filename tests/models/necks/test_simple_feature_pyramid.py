"""ViTDet's pyramid written out, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.models.necks.simple_feature_pyramid import SimpleFeaturePyramid


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def channel_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-6).sqrt() * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_each_level_is_what_vitdet_says(ceil_mode):
    neck = drawn(SimpleFeaturePyramid((16,), (16,), channels=8, ceil_mode=ceil_mode))
    state = neck.state_dict()
    x = torch.randn(2, 16, 5, 7)

    def part(name: str) -> list:
        return [state[f"{name}.{kind}"] for kind in ("weight", "bias")]

    up = F.conv_transpose2d(x, *part("simfp_2.0"), stride=2)
    up = F.conv_transpose2d(F.gelu(channel_norm(up, *part("simfp_2.1"))), *part("simfp_2.3"), stride=2)
    starts = {
        "simfp_2": (up, 4),
        "simfp_3": (F.conv_transpose2d(x, *part("simfp_3.0"), stride=2), 1),
        "simfp_4": (x, 0),
        "simfp_5": (F.max_pool2d(x, 2, ceil_mode=ceil_mode), 1),
    }
    want = []
    for name, (level, first) in starts.items():
        for i, padding in ((first, 0), (first + 1, 1)):
            level = F.conv2d(level, state[f"{name}.{i}.weight"], padding=padding)
            level = channel_norm(level, *part(f"{name}.{i}.norm"))
        want.append(level)
    want.append(want[-1][:, :, ::2, ::2])
    with torch.no_grad():
        found = neck([x])
    for got, level in zip(found, want, strict=True):
        torch.testing.assert_close(got, level, rtol=1e-4, atol=1e-4)
    assert neck.out_strides == (4, 8, 16, 32, 64) and neck.out_channels == (8,) * 5


@pytest.mark.parametrize(
    ("maps", "options", "said"),
    [
        (((16,), (14,)), {}, "patch_size=16"),
        (((16,), (12,)), {}, "no powers of two"),
        (((16, 16), (16, 16)), {}, "out_indices"),
        (((16,), (16,)), dict(scales=(4, 3)), "scales"),
        (((16,), (16,)), dict(scales=(1, 2)), "in this order"),
    ],
)
def test_what_it_cannot_make_is_reported(maps, options, said):
    with pytest.raises(ConfigError, match=said):
        SimpleFeaturePyramid(*maps, **options)
