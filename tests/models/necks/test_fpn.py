import pytest
import torch

from densevit.errors import ConfigError
from densevit.models.necks.fpn import FPN

CHANNELS, STRIDES = (4, 6, 8), (8, 16, 32)


def maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, c, 32 // 2**i + 1, 48 // 2**i, generator=generator) for i, c in enumerate(CHANNELS)]


def test_top_down_adds_the_nearest_coarser_place():
    fpn = FPN(CHANNELS, STRIDES, out_channels=5, num_levels=3)
    features = maps()
    lateral = [conv(x) for conv, x in zip(fpn.lateral_convs, features, strict=True)]
    for fine in (1, 0):
        h, w = lateral[fine].shape[2:]
        ch, cw = lateral[fine + 1].shape[2:]
        rows, columns = torch.arange(h) * ch // h, torch.arange(w) * cw // w
        lateral[fine] = lateral[fine] + lateral[fine + 1][:, :, rows][:, :, :, columns]
    for got, conv, x in zip(fpn(features), fpn.fpn_convs, lateral, strict=True):
        torch.testing.assert_close(got, conv(x))


def test_max_pool_level_takes_every_second_place():
    outs = FPN(CHANNELS, STRIDES, out_channels=5, num_levels=4)(maps())
    torch.testing.assert_close(outs[3], outs[2][:, :, ::2, ::2])


def test_retinanet_levels_come_from_the_raw_last_map_without_relu():
    fpn = FPN(CHANNELS, STRIDES, out_channels=5, num_levels=5, extra_levels="conv_on_input")
    features = maps()
    outs = fpn(features)
    torch.testing.assert_close(outs[3], fpn.fpn_convs[3](features[-1]))
    torch.testing.assert_close(outs[4], fpn.fpn_convs[4](outs[3]))
    assert fpn.out_strides == (8, 16, 32, 64, 128)


def test_fewer_levels_than_maps_or_an_unknown_way_are_refused():
    with pytest.raises(ConfigError, match="num_levels"):
        FPN(CHANNELS, STRIDES, num_levels=2)
    with pytest.raises(ConfigError, match="conv_on_input"):
        FPN(CHANNELS, STRIDES, extra_levels="on_input")
