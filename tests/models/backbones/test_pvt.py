import pytest
import torch

from densevit.errors import ConfigError
from densevit.models.backbones.pvt import PVT
from densevit.models.backbones.pvt_v2 import PVTv2
from densevit.models.layers.spatial_reduction_attention import SpatialReductionAttention

TINY = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2,) * 4)
TINY_V1 = dict(TINY, sr_ratios=(8, 4, 2, 1))


def millions_with_classifier(backbone, class_token: bool) -> float:
    """Parameters of the published classifier: ours, its linear layer of 1000 classes, and v1's last norm and token."""
    channels = backbone.out_channels[-1]
    extra = 1001 * channels - channels + 1000
    extra += (2 + 1 + 1) * channels if class_token else 0  # norm, class token and its row of the position table
    return (sum(p.numel() for p in backbone.parameters()) + extra) / 1e6


@pytest.mark.parametrize(("arch", "published"), [("tiny", 13.2), ("small", 24.5), ("medium", 44.2), ("large", 61.4)])
def test_pvt_has_the_published_number_of_parameters(arch, published):
    with torch.device("meta"):
        assert round(millions_with_classifier(PVT(arch), class_token=True), 1) == published


@pytest.mark.parametrize(
    ("arch", "published"),
    [("b0", 3.7), ("b1", 14.0), ("b2", 25.4), ("b2_li", 22.6), ("b3", 45.2), ("b4", 62.6), ("b5", 82.0)],
)
def test_pvt_v2_has_the_published_number_of_parameters(arch, published):
    with torch.device("meta"):
        assert round(millions_with_classifier(PVTv2(arch), class_token=False), 1) == published


def test_unknown_sizes_are_reported_with_the_nearest():
    with pytest.raises(ConfigError, match="'tiny'"):
        PVT("tinny")
    with pytest.raises(ConfigError, match="'depths'"):
        PVT(dict(TINY_V1, depth=(1, 1, 1, 1)))
    with pytest.raises(ConfigError, match="sr_ratios"):
        PVT(TINY)


def test_padding_and_dropping_agree_where_the_sides_are_multiples_of_32_and_differ_elsewhere():
    torch.manual_seed(0)
    padding = PVT(TINY_V1, pretrain_size=64).eval()
    dropping = PVT(TINY_V1, pretrain_size=64, ceil_mode=False).eval()
    dropping.load_state_dict(padding.state_dict())
    with torch.no_grad():
        for x, y in zip(padding(torch.ones(1, 3, 64, 96)), dropping(torch.ones(1, 3, 64, 96)), strict=True):
            torch.testing.assert_close(x, y)
        assert [x.shape[2] for x in padding(torch.ones(1, 3, 101, 64))] == [26, 13, 7, 4]
        assert [x.shape[2] for x in dropping(torch.ones(1, 3, 101, 64))] == [25, 12, 6, 3]


def test_position_tables_of_another_size_are_resized_at_loading():
    small, large = PVT(TINY_V1, pretrain_size=64), PVT(TINY_V1, pretrain_size=128)
    large.load_state_dict(small.state_dict())
    assert large.pos_embed1.shape == (1, 32 * 32, 8)
    table = small.pos_embed1.detach().view(16, 16, 8)
    got = large.pos_embed1.detach().view(32, 32, 8)
    torch.testing.assert_close(got[1, 1], (9 * table[0, 0] + 3 * table[0, 1] + 3 * table[1, 0] + table[1, 1]) / 16)


def test_stage_1_keeps_its_table_on_an_equal_count_only_when_reported():
    torch.manual_seed(0)
    kept = PVT(TINY_V1, pretrain_size=64, keep_pos_embed_if_same_length=True)
    resized = PVT(TINY_V1, pretrain_size=64)
    tokens = torch.zeros(1, 8 * 32, 8)
    torch.testing.assert_close(kept.add_position(1, tokens, (8, 32)), kept.pos_embed1)
    resized.load_state_dict(kept.state_dict())
    assert not torch.allclose(resized.add_position(1, tokens, (8, 32)), kept.pos_embed1)


def test_spatial_reduction_of_one_is_plain_multi_head_attention():
    torch.manual_seed(0)
    ours = SpatialReductionAttention(8, 2, 1)
    torchs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    torchs.in_proj_weight.data = torch.cat((ours.q.weight, ours.kv.weight)).detach()
    torchs.in_proj_bias.data = torch.cat((ours.q.bias, ours.kv.bias)).detach()
    torchs.out_proj.load_state_dict(ours.proj.state_dict())
    x = torch.rand(2, 12, 8)
    torch.testing.assert_close(ours(x, (3, 4)), torchs(x, x, x)[0])
