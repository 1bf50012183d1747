"""A pyramid by deconvolutions: each location becomes 2 x 2, pooling keeps or leaves out odd sides, scales are
checked."""

import pytest
import torch

from densevit.errors import ConfigError
from densevit.models.necks.feature2pyramid import Feature2Pyramid


def test_an_odd_side_is_kept_or_left_out():
    maps = [torch.arange(15.0).view(1, 1, 3, 5)] * 2
    kept = Feature2Pyramid((1, 1), (16, 16), scales=(1, 0.5))(maps)[1]
    assert kept.tolist() == [[[[6, 8, 9], [11, 13, 14]]]]
    left = Feature2Pyramid((1, 1), (16, 16), scales=(1, 0.5), ceil_mode=False)(maps)[1]
    assert left.tolist() == [[[[6, 8]]]]


def test_a_deconvolution_makes_four_places_of_each_by_its_own_weights():
    neck = Feature2Pyramid((2,), (14,), scales=(2,))
    assert neck.out_strides == (7,)
    x = torch.randn(1, 2, 3, 4)
    weight, bias = neck.up2.first.weight, neck.up2.first.bias
    wanted = torch.einsum("bihw,ioyx->bohywx", x, weight).reshape(1, 2, 6, 8) + bias[:, None, None]
    torch.testing.assert_close(neck([x])[0], wanted)


@pytest.mark.parametrize("scales", [(4, 2), (2, 2, 1), (3, 2, 1)])
def test_scales_that_do_not_fit_are_reported(scales):
    with pytest.raises(ConfigError, match="for 3 maps"):
        Feature2Pyramid((8,) * 3, (16,) * 3, scales=scales)
