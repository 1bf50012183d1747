import pytest
import torch

from densevit.errors import ConfigError
from densevit.models.layers.fused_pyramid import FusedPyramid


def test_each_level_has_as_many_convolutions_as_it_is_doubled_and_at_least_one():
    merge = FusedPyramid((8, 8, 8, 8), (4, 8, 16, 32), 6)
    assert [len(branch) for branch in merge.branches] == [1, 1, 2, 3]


@pytest.mark.parametrize("sizes", [((16, 24), (8, 12), (4, 6)), ((15, 21), (8, 11), (4, 6)), ((3, 1), (2, 1), (1, 1))])
def test_the_sum_has_the_finest_size_and_every_level_is_in_it(sizes):
    merge = FusedPyramid((4, 5, 6), (4, 8, 16), 6).eval()
    features = [torch.rand(2, c, *size, requires_grad=True) for c, size in zip((4, 5, 6), sizes, strict=True)]
    merged = merge(features)
    assert merged.shape == (2, 6, *sizes[0])
    merged.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in features)


def test_strides_that_do_not_double_are_refused():
    with pytest.raises(ConfigError, match="double"):
        FusedPyramid((4, 4), (4, 12), 6)
