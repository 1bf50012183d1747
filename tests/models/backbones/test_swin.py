"""Swin and Swin V2: sizes, windows of other weights, equal forms of the same computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.kernels.window_partition import WindowConfig, relative_positions
from densevit.models.backbones.swin import RelativePositionBiasAttention, Swin
from densevit.models.backbones.swin_v2 import CosineAttention, SwinV2, log_spaced_offsets

TINY = dict(embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), mlp_ratio=2)


def millions_with_classifier(backbone) -> float:
    """Parameters of the published classifier: ours, its last norm and its linear layer of 1000 classes."""
    channels = backbone.out_channels[-1]
    return (sum(p.numel() for p in backbone.parameters()) + 2 * channels + 1001 * channels - channels + 1000) / 1e6


@pytest.mark.parametrize(("arch", "published"), [("tiny", 28.3), ("small", 49.6), ("base", 87.8), ("large", 196.5)])
def test_swin_has_the_published_number_of_parameters(arch, published):
    with torch.device("meta"):
        assert round(millions_with_classifier(Swin(arch, output_norm=False)), 1) == published


def test_windows_of_12_add_rows_of_the_bias_tables_and_nothing_else():
    with torch.device("meta"):
        small, large = (sum(p.numel() for p in Swin("base", window_size=w).parameters()) for w in (7, 12))
    heads = sum(d * h for d, h in zip((2, 2, 18, 2), (4, 8, 16, 32), strict=True))
    assert large - small == (23**2 - 13**2) * heads


@pytest.mark.parametrize(("arch", "published"), [("tiny", 28.3), ("small", 49.7), ("base", 87.9), ("large", 196.7)])
def test_swin_v2_has_the_published_number_of_parameters_whatever_its_windows(arch, published):
    with torch.device("meta"):
        for window in (8, 16, 24):
            backbone = SwinV2(arch, window, output_norm=False)
            assert millions_with_classifier(backbone) == pytest.approx(published, abs=0.06)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def attention_by_hand(attn, x, size, scores):
    """Window attention on a map of whole windows, unshifted, one window and head at a time."""
    (height, width), heads = attn.window_config.window, attn.num_heads
    bias = attn.bias_table()[relative_positions((height, width))]
    out = torch.zeros_like(x)
    locations = torch.arange(size[0] * size[1]).view(size)
    for top in range(0, size[0], height):
        for left in range(0, size[1], width):
            window = locations[top : top + height, left : left + width].flatten()
            query, key, value = attn.split(attn.project(x[:, window]))
            mixed = [scores(query[:, h], key[:, h]).add(bias[..., h]).softmax(-1) @ value[:, h] for h in range(heads)]
            out[:, window] = attn.proj(torch.cat(mixed, -1))
    return out


def test_attention_equals_its_definition_window_by_window():
    torch.manual_seed(0)
    window_config, x = WindowConfig((2, 3), (0, 0)), torch.rand(2, 24, 8)
    with torch.no_grad():
        table = drawn(RelativePositionBiasAttention(8, 2, window_config, True, None))
        want = attention_by_hand(table, x, (4, 6), lambda q, k: q @ k.mT / 2)
        torch.testing.assert_close(table(x, (4, 6)), want)
        cosine = drawn(CosineAttention(8, 2, window_config, (0, 0), True))
        want = attention_by_hand(cosine, x, (4, 6), lambda q, k: q @ k.mT)
        torch.testing.assert_close(cosine(x, (4, 6)), want)


def test_cosines_are_scaled_by_no_more_than_100_and_keys_have_no_bias():
    attn = drawn(CosineAttention(8, 2, WindowConfig((2, 2), (0, 0)), (0, 0), True))
    attn.logit_scale.data[:, 0, 0] = torch.tensor([1.0, 9.0])
    with torch.no_grad():
        query, key, _ = attn.split(attn.project(torch.rand(3, 4, 8)))
        torch.testing.assert_close(query.norm(dim=-1).amax((0, 2)), torch.tensor([math.e, 100.0]))
        torch.testing.assert_close(key.norm(dim=-1), torch.ones(3, 2, 4))
        assert (attn.split(attn.project(torch.zeros(1, 4, 8)))[1] == 0).all()
        assert 0 < attn.bias_table().min() < attn.bias_table().max() < 16


def test_offsets_of_the_pretraining_keep_their_coordinates_in_a_larger_window():
    before, after = log_spaced_offsets((4, 4), (0, 0)).view(7, 7, 2), log_spaced_offsets((6, 6), (4, 4)).view(11, 11, 2)
    torch.testing.assert_close(after[2:9, 2:9], before)
    assert before[0, -1].tolist() == pytest.approx([-math.log2(9) / 3, math.log2(9) / 3])
    assert after.abs().max() == pytest.approx(math.log2(1 + 8 * 5 / 3) / 3)


def test_a_padded_key_equals_the_bias_and_takes_part():
    """A 3 x 3 map in a window of 4: as a 4 x 4 map whose last row and column are zero, without padding."""
    attn, x = drawn(RelativePositionBiasAttention(8, 2, WindowConfig((4, 4), (0, 0)), True, None)), torch.rand(1, 9, 8)
    padded = F.pad(x.view(1, 3, 3, 8), (0, 0, 0, 1, 0, 1)).view(1, 16, 8)
    with torch.no_grad():
        want = attn(padded, (4, 4)).view(1, 4, 4, 8)[:, :3, :3].flatten(1, 2)
        torch.testing.assert_close(attn(x, (3, 3)), want)


@pytest.mark.parametrize("kind", [Swin, SwinV2])
def test_every_parameter_gets_a_gradient_of_its_own(kind):
    backbone = drawn(kind(TINY, window_size=3)).train()
    sum((x * torch.randn_like(x)).sum() for x in backbone(torch.rand(1, 3, 101, 75))).backward()
    dead = [name for name, p in backbone.named_parameters() if not p.grad.abs().max() > 0]
    assert not dead, dead


@pytest.mark.parametrize("kind", [Swin, SwinV2])
def test_training_and_prediction_compute_the_same(kind):
    """A mask that is trained takes another form of attention than one that is not."""
    backbone = drawn(kind(TINY, window_size=3))
    images = torch.rand(2, 3, 70, 90)
    with torch.no_grad():
        frozen = backbone(images)
    for x, y in zip(frozen, backbone(images), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_bias_tables_of_another_window_are_resized_bicubically():
    small, large = drawn(Swin(TINY, window_size=3)), Swin(TINY, window_size=5)
    large.load_state_dict(small.state_dict())
    name = "layers.1.blocks.1.attn.relative_position_bias_table"
    table = small.state_dict()[name].t().view(1, 2, 5, 5)
    want = F.interpolate(table, (9, 9), mode="bicubic", align_corners=False).view(2, 81).t()
    torch.testing.assert_close(large.state_dict()[name], want)
    other = Swin(dict(TINY, num_heads=(1, 1, 2, 4)), window_size=5)
    with pytest.raises(RuntimeError, match="relative_position_bias_table"):
        other.load_state_dict(small.state_dict())


def test_weights_of_v2_fit_any_window_and_keep_the_bias_of_the_offsets_that_they_know():
    small, large = drawn(SwinV2(TINY, 4)), SwinV2(TINY, 8, pretrained_window_sizes=4)
    assert not large.load_state_dict(small.state_dict()).missing_keys
    attn, wide = small.layers[0].blocks[0].attn, large.layers[0].blocks[0].attn
    with torch.no_grad():
        near = wide.bias_table().view(15, 15, -1)[4:11, 4:11]
        torch.testing.assert_close(near, attn.bias_table().view(7, 7, -1))


def test_an_absolute_table_is_added_as_it_is_at_its_own_size_and_resized_elsewhere():
    backbone = drawn(Swin(TINY, window_size=3, pretrain_size=(32, 48)))
    assert backbone.absolute_pos_embed.shape == (1, 8 * 12, 8)
    without = Swin(TINY, window_size=3).eval()
    without.load_state_dict({k: v for k, v in backbone.state_dict().items() if k != "absolute_pos_embed"})
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        without.patch_embed.norm.register_forward_hook(lambda _, __, out: out + backbone.absolute_pos_embed)
        torch.testing.assert_close(backbone(images)[-1], without(images)[-1])
        assert backbone(torch.rand(1, 3, 50, 41))[0].shape == (1, 8, 13, 11)
    square = Swin(TINY, window_size=3, pretrain_size=64)
    square.load_state_dict(Swin(TINY, window_size=3, pretrain_size=32).state_dict())


def test_a_new_v2_block_passes_its_input_on():
    backbone = SwinV2(TINY, 4).eval()
    x = torch.rand(1, 24, 8)
    assert torch.equal(backbone.layers[0].blocks[1](x, (4, 6)), x)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (dict(arch="tinny"), "'tiny'"),
        (dict(arch=TINY, window_size=(7, 7)), "each of 4 stages"),
        (dict(arch=TINY, window_size=7.5), "each of 4 stages"),
        (dict(arch=TINY, window_size=0), "shift is to be smaller"),
        (dict(arch=TINY, window_size=4, shift=dict(size=4)), "shift is to be smaller"),
        (dict(arch=TINY, out_indices=(1, 4)), "0 to 3"),
    ],
)
def test_wrong_sizes_are_reported(args, said):
    for kind in (Swin, SwinV2):
        with pytest.raises(ConfigError, match=said):
            kind(**args)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Swin, SwinV2])
def test_torch_compile_takes_it_whole_also_at_a_second_size(kind):
    backbone = drawn(kind(TINY, window_size=3))
    compiled = torch.compile(backbone, fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        for size in ((64, 96), (50, 41)):
            images = torch.rand(1, 3, *size)
            for x, y in zip(compiled(images), backbone(images), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
