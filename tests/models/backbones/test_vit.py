"""ViT: sizes, what each token and table does, windows, and equal forms of the same computation."""

import math

import pytest
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.models.backbones.vit import ViT
from densevit.models.layers.pos_embed import TableResizing, sincos_table, table_for
from densevit.models.layers.rotary import RotaryPositions, rotate
from densevit.models.layers.self_attention import DecomposedSelfAttention, RelativeSelfAttention, SelfAttention

SMALL = dict(arch=dict(embed_dim=16, depth=4, num_heads=2, mlp_ratio=2), patch_size=8, img_size=32)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def count(**options) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in ViT(**options).parameters())


@pytest.mark.parametrize(
    ("options", "published"),
    [
        (dict(arch="tiny"), 5.7),
        (dict(arch="small"), 22.1),
        (dict(arch="base"), 86.6),
        (dict(arch="large"), 304.3),
        (dict(arch="huge", patch_size=14), 632.0),
        (dict(arch="base", patch_size=32), 88.2),
        (dict(arch="small", patch_size=8), 21.7 + 0.4),  # DINO's, published without a classifier
    ],
)
def test_the_published_number_of_parameters(options, published):
    channels = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280}[options["arch"]]
    assert (count(**options) + 1000 * (channels + 1)) / 1e6 == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize(
    ("options", "published"),
    [
        (dict(arch="tiny", tokens=dict(dist=True)), 5.9),
        (dict(arch="small", tokens=dict(dist=True)), 22.4),
        (dict(arch="base", tokens=dict(dist=True)), 87.3),
    ],
)
def test_deits_distilled_sizes(options, published):
    channels = {"tiny": 192, "small": 384, "base": 768}[options["arch"]]
    assert (count(**options) + 2 * 1000 * (channels + 1)) / 1e6 == pytest.approx(published, abs=0.06)


def test_dinov2s_giant():
    assert count(arch="dinov2_giant") / 1e6 == pytest.approx(1136.5, abs=0.1)


def test_maps_are_the_blocks_tokens_and_the_norm_is_where_it_is_asked_for():
    images = torch.randn(2, 3, 32, 40)
    maps = {}
    for norm in ("last", "all", None):
        model = drawn(ViT(**SMALL, out_indices=(1, 3), final_norm=norm))
        after = []
        for i in (1, 3):
            model.blocks[i].register_forward_hook(lambda _, __, out, after=after: after.append(out[:, 1:]))
        with torch.no_grad():
            maps[norm] = model(images)
            for i, (image, tokens) in enumerate(zip(maps[norm], after, strict=True)):
                normed = norm == "all" or (norm == "last" and i == 1)
                want = model.norm(tokens) if normed else tokens
                assert torch.equal(image, want.transpose(1, 2).unflatten(2, (4, 5)))
    assert ViT(**SMALL, out_indices=(0, 2)).norm is None


def test_the_class_token_is_appended_at_every_place():
    model = drawn(ViT(**SMALL, tokens=dict(append_cls=True, cls_norm=True)))
    tokens = []
    model.blocks[-1].register_forward_hook(lambda _, __, out: tokens.append(out))
    with torch.no_grad():
        (image,) = model(torch.randn(2, 3, 24, 40))
        want = model.cls_norm(tokens[0][:, 0])
    assert model.out_channels == (32,)
    assert torch.equal(image[:, 16:], want[:, :, None, None].expand(-1, -1, 3, 5))


def test_incomplete_patches_are_completed_with_zeros():
    model = drawn(ViT(**SMALL))
    images = torch.randn(1, 3, 30, 37)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(F.pad(images, (0, 3, 0, 2))))


def attention_by_hand(attn, x, bias=0.0):
    """One head at a time. x: (B, N, C)."""
    packed = F.linear(x, attn.qkv.weight, attn.qkv.bias)
    heads = []
    for h in range(attn.num_heads):
        width = x.shape[-1] // attn.num_heads
        q, k, v = (packed[..., i * x.shape[-1] + h * width : i * x.shape[-1] + (h + 1) * width] for i in range(3))
        logits = q @ k.transpose(1, 2) / width**0.5 + (bias[h] if torch.is_tensor(bias) else bias)
        heads.append(logits.softmax(-1) @ v)
    return attn.proj(torch.cat(heads, -1))


def test_windows_are_completed_with_zeros_that_take_part():
    attn = drawn(SelfAttention(8, 2, window=3))
    x = torch.randn(2, 4 * 5, 8)
    full = F.pad(x.unflatten(1, (4, 5)), (0, 0, 0, 1, 0, 2))  # 6 x 6
    want = torch.zeros_like(full)
    for top in (0, 3):
        for left in (0, 3):
            piece = full[:, top : top + 3, left : left + 3]
            done = attention_by_hand(attn, piece.flatten(1, 2))
            want[:, top : top + 3, left : left + 3] = done.unflatten(1, (3, 3))
    with torch.no_grad():
        torch.testing.assert_close(attn(x, (4, 5)), want[:, :4, :5].flatten(1, 2))


def test_windows_completed_with_keys_of_zeros_by_hand():
    """On a map of 3 x 5 in windows of 2, one has two tokens beside two zero keys, one a single token beside three."""
    attn = drawn(SelfAttention(8, 2, window=2, window_padding="keys"))
    x = torch.randn(1, 3 * 5, 8)
    locations, want = torch.arange(15).view(3, 5), torch.zeros_like(x)
    for top in (0, 2):
        for left in (0, 2, 4):
            inside = locations[top : top + 2, left : left + 2].flatten()
            query, key, value = F.linear(x[0, inside], attn.qkv.weight, attn.qkv.bias).unflatten(1, (3, 2, 4)).unbind(1)
            logits = torch.einsum("nhd,mhd->hnm", query, key) / 2
            logits = F.pad(logits, (0, 4 - len(inside)))  # a key of zeros has the logit 0, its value adds nothing
            mixed = torch.einsum("hnm,mhd->nhd", logits.softmax(-1)[..., : len(inside)], value)
            want[0, inside] = attn.proj(mixed.flatten(1))
    with torch.no_grad():
        torch.testing.assert_close(attn(x, (3, 5)), want)


def test_blocks_may_have_windows_of_different_sides():
    windows = dict(blocks=(2, 0), size=(3, 4), padding="keys")
    several = drawn(ViT(**SMALL, tokens=dict(cls=False), windows=windows))
    assert [b.attn.window_config and b.attn.window_config.window for b in several.blocks] == [
        (4, 4),
        None,
        (3, 3),
        None,
    ]


def test_a_window_as_large_as_the_map_is_global():
    options = dict(SMALL, tokens=dict(cls=False))
    whole, cut = drawn(ViT(**options)), ViT(**options, windows=dict(size=4, blocks=(0, 2))).eval()
    cut.load_state_dict(whole.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(whole(images), cut(images))
        assert not torch.allclose(whole(torch.cat((images, images), 3))[0], cut(torch.cat((images, images), 3))[0])


def test_relative_biases_by_hand():
    attn = drawn(RelativeSelfAttention(8, 2, (2, 3)))
    table = attn.relative_position_bias_table
    locations = [(i, j) for i in range(2) for j in range(3)]
    bias = torch.zeros(2, 7, 7)
    bias[:, 0, :], bias[:, :, 0], bias[:, 0, 0] = table[-3][:, None], table[-2][:, None], table[-1]
    for a, (i, j) in enumerate(locations):
        for b, (k, n) in enumerate(locations):
            bias[:, a + 1, b + 1] = table[(i - k + 1) * 5 + (j - n + 2)]
    x = torch.randn(1, 7, 8)
    with torch.no_grad():
        torch.testing.assert_close(attn(x, (2, 3)), attention_by_hand(attn, x, bias))


@pytest.mark.parametrize("window", [0, 2])
def test_decomposed_positions_by_hand(window):
    """Of a whole map, and of each window of a map that windows do not divide."""
    side = window or 3
    attn = drawn(DecomposedSelfAttention(8, 2, (side, side), window=window))
    x = torch.randn(1, 9, 8)

    def by_hand(tokens: torch.Tensor) -> torch.Tensor:
        query = F.linear(tokens, attn.qkv.weight[:8], attn.qkv.bias[:8])[0].unflatten(1, (2, 4))
        locations = [(i, j) for i in range(side) for j in range(side)]
        bias = torch.zeros(2, len(locations), len(locations))
        for a, (i, j) in enumerate(locations):
            for b, (k, n) in enumerate(locations):
                row, column = attn.rel_pos_h[i - k + side - 1], attn.rel_pos_w[j - n + side - 1]
                bias[:, a, b] = query[a] @ row + query[a] @ column
        return attention_by_hand(attn, tokens, bias)

    full = F.pad(x.unflatten(1, (3, 3)), (0, 0, 0, 1, 0, 1)) if window else x.unflatten(1, (3, 3))
    want = torch.zeros_like(full)
    with torch.no_grad():
        for top in range(0, full.shape[1], side):
            for left in range(0, full.shape[2], side):
                locations = (slice(None), slice(top, top + side), slice(left, left + side))
                want[locations] = by_hand(full[locations].flatten(1, 2)).unflatten(1, (side, side))
        torch.testing.assert_close(attn(x, (3, 3)), want[:, :3, :3].flatten(1, 2))


def test_tables_of_relative_positions_have_the_sizes_that_they_are_made_for():
    model = ViT(
        **SMALL,
        tokens=dict(cls=False),
        rel_pos=dict(kind="decomposed", img_size=64),
        windows=dict(size=3, blocks=(0, 2)),
    )
    assert [len(block.attn.rel_pos_h) for block in model.blocks] == [5, 15, 5, 15]
    assert model.pos_embed.shape[1] == 16  # img_size=32


def test_convolution_propagation_by_hand():
    options, windows = dict(SMALL, tokens=dict(cls=False), final_norm=None), dict(size=2, blocks=(0, 1, 2, 3))
    model = ViT(**options, windows=dict(windows, conv_blocks=(1,)))
    plain, images = ViT(**options, windows=windows).eval(), torch.randn(1, 3, 32, 40)
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():  # at first the branch changes nothing
        torch.testing.assert_close(model.eval()(images), plain(images))
    drawn(model)
    branch, seen = model.blocks[1].residual, []
    branch.register_forward_hook(lambda _, given, out: seen.extend((*given, out)))
    with torch.no_grad():
        model(images)
        x = seen[0]
        for i, padding in ((1, 0), (2, 1), (3, 0)):
            norm = branch.get_submodule(f"norm{i}")
            x = F.conv2d(x, branch.get_submodule(f"conv{i}").weight, padding=padding)
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
            x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
            x = F.gelu(x) if i < 3 else x
        torch.testing.assert_close(seen[1], seen[0] + x, rtol=1e-4, atol=1e-4)
    assert {n.split("residual.")[1] for n, _ in model.named_parameters() if "residual" in n} == {
        "conv1.weight", "conv2.weight", "conv3.weight", *(f"norm{i}.{k}" for i in (1, 2, 3) for k in ("weight", "bias"))
    }  # fmt: skip


def test_a_vit_may_do_without_absolute_positions():
    model = drawn(ViT(**SMALL, tokens=dict(cls=False), pos_embed=dict(kind=None)))
    assert not any("pos_embed" in name for name in model.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():  # nothing tells the patches apart: inverted, they give the same maps inverted
        turned = images.unflatten(3, (4, 8)).flip(3).flatten(3)
        torch.testing.assert_close(model(turned)[0], model(images)[0].flip(3), rtol=1e-4, atol=1e-5)


def test_relative_biases_of_another_size_are_smooth():
    attn = RelativeSelfAttention(8, 1, (4, 4))
    with torch.no_grad():
        attn.relative_position_bias_table[:-3] = torch.linspace(-1, 1, 7)[None].expand(7, 7).reshape(-1, 1)
        bias = attn.logit_bias(torch.zeros(1), (4, 6))[0, 0, 1:, 1:]
    assert (bias[0].view(4, 6).diff(dim=1) < 0).all()  # the further right a key, the smaller
    assert (bias[0].view(4, 6).diff(dim=0).abs() < 1e-6).all()


# ---- positions ---------------------------------------------------------------------------------------


def test_bicubic_keeps_the_norm_of_the_vectors_and_bilinear_shrinks_it():
    """What DeiT says of the two, on a table of trained ones' smoothness."""
    torch.manual_seed(0)
    rough = torch.randn(1, 64, 5, 5)
    table = F.interpolate(rough, (14, 14), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    kept = {}
    for mode in ("bicubic", "bilinear"):
        resized = table_for(table, 0, (14, 14), (24, 24), TableResizing(mode))
        kept[mode] = float(resized.norm(dim=2).mean() / table.norm(dim=2).mean())
    assert abs(kept["bicubic"] - 1) < 0.3 * abs(kept["bilinear"] - 1)
    assert kept["bilinear"] < 1


def test_an_offset_samples_at_the_inverse_of_its_factor():
    table = torch.randn(1, 1 + 25, 3)
    got = table_for(table, 1, (5, 5), (7, 6), TableResizing(offset=0.1))
    image = table[:, 1:].transpose(1, 2).unflatten(2, (5, 5))
    want = F.interpolate(image, scale_factor=(7.1 / 5, 6.1 / 5), mode="bicubic", align_corners=False)
    assert torch.equal(got[:, 1:], want.flatten(2).transpose(1, 2))
    assert torch.equal(got[:, :1], table[:, :1])
    plain = table_for(table, 1, (5, 5), (7, 6), TableResizing())
    assert not torch.allclose(got, plain)


def test_a_table_of_the_same_count_is_kept_only_where_that_is_asked_for():
    table = torch.randn(1, 16, 3)
    assert table_for(table, 0, (4, 4), (2, 8), TableResizing(keep_on_equal_count=True)) is table
    assert not torch.allclose(table_for(table, 0, (4, 4), (2, 8), TableResizing()), table)
    assert table_for(table, 0, (4, 4), (4, 4), TableResizing(offset=0.1, antialias=True)) is table


def test_sines_and_cosines_of_the_column_come_first():
    table = sincos_table((2, 3), 8)[0]
    column, row = 2.0, 1.0  # the last location
    angles = torch.tensor([1.0, 0.01])
    want = torch.cat([(column * angles).sin(), (column * angles).cos(), (row * angles).sin(), (row * angles).cos()])
    torch.testing.assert_close(table[5], want)
    model = ViT(**SMALL, pos_embed=dict(kind="sincos"))
    torch.testing.assert_close(model.pos_embed[:, 1:], sincos_table((4, 4), 16))
    assert (model.pos_embed[:, 0] == 0).all()


@pytest.mark.parametrize("options", [dict(), dict(base=10000.0, steps=16)], ids=["DINOv3", "EVA-02"])
def test_rotary_logits_depend_on_the_distance_alone(options):
    rotary = RotaryPositions(16, **options)
    rotation = rotary((5, 7), 2)
    q, k = (torch.randn(16).expand(2 + 35, 16) for _ in range(2))
    logits = rotate(q, rotation) @ rotate(k, rotation).T
    assert torch.equal(rotate(q, rotation)[:2], q[:2])  # tokens without a place are not turned
    inner = logits[2:, 2:].view(5, 7, 5, 7)
    torch.testing.assert_close(inner[1, 2, 3, 5], inner[2, 0, 4, 3])
    torch.testing.assert_close(inner[1, 4, 0, 1], inner[4, 6, 3, 3])
    torch.testing.assert_close(rotate(q, rotation).norm(dim=1), q.norm(dim=1))


@pytest.mark.parametrize("coords", ["separate", "max", "min"])
def test_rotary_angles_by_hand(coords):
    rotary = RotaryPositions(8, 100.0, coords)
    angles = rotary.angles((2, 6)).view(2, 6, 8)
    side = {"separate": (2, 6), "max": (6, 6), "min": (2, 2)}[coords]
    location = [2 * (n + 0.5) / s - 1 for n, s in zip((1, 4), side, strict=True)]
    want = torch.tensor([2 * torch.pi * p / period for p in location for period in (1.0, 10.0)]).repeat(2)
    torch.testing.assert_close(angles[1, 4], want)


def test_eva02s_pairs_are_neighbors_turned_by_places_that_span_the_pretrainings_grid():
    rotation = RotaryPositions(8, 10000.0, steps=16)((4, 8), 0)
    x = torch.randn(32, 8)
    turned = rotate(x, rotation)
    row, column = 3, 5
    location = 8 * row + column
    for pair, angle in enumerate((row / 4 * 16, row / 4 * 16 / 100, column / 8 * 16, column / 8 * 16 / 100)):
        a, b = x[location, 2 * pair : 2 * pair + 2]
        cos, sin = math.cos(angle), math.sin(angle)
        want = torch.stack((a * cos - b * sin, b * cos + a * sin))
        torch.testing.assert_close(turned[location, 2 * pair : 2 * pair + 2], want)


def test_rotary_periods_rise_geometrically_between_given_ends():
    periods = RotaryPositions(16, (0.5, 13.5)).periods
    torch.testing.assert_close(periods, torch.tensor([0.5, 1.5, 4.5, 13.5]))
    torch.testing.assert_close(RotaryPositions(16, 81.0).periods, torch.tensor([1.0, 3.0, 9.0, 27.0]))


def test_without_its_key_bias_rotary_attention_ignores_that_third():
    model = drawn(ViT(**SMALL, pos_embed=dict(kind="rotary"), block=dict(key_bias=False)))
    images = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        before = model(images)[0]
        model.blocks[0].attn.qkv.bias[16:32] += 1
        assert torch.equal(model(images)[0], before)
        model.blocks[0].attn.qkv.bias[:16] += 1
        assert not torch.equal(model(images)[0], before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(arch="enormous"), "enormous"),
        (dict(final_norm="lats"), "last"),
        (dict(pos_embed=dict(kind="rope")), "rotary"),
        (dict(out_indices=(4,)), "0 to 3"),
        (dict(out_indices=()), "out_indices"),
        (dict(windows=dict(blocks=(0,))), "windows.size"),
        (dict(windows=dict(blocks=(0,), size=4)), r"tokens=dict\(cls=False\)"),
        (
            dict(windows=dict(blocks=(0, 1), size=(4,)), tokens=dict(cls=False)),
            "windows have 2 blocks, but size gives 1",
        ),
        (dict(windows=dict(padding="key")), "nearest: 'keys'"),
        (dict(tokens=dict(append_cls=True, cls=False)), "tokens.cls=True"),
        (dict(rel_pos=dict(kind="bias"), tokens=dict(registers=2)), "rel_pos.kind='bias'"),
        (dict(rel_pos=dict(kind="decomposed")), r"tokens=dict\(cls=False\)"),
        (dict(rel_pos=dict(kind="both")), "decomposed"),
        (dict(block=dict(mpl="gelu")), "block has no key 'mpl'"),
        (dict(windows=dict(conv_blocks=(1,))), r"tokens=dict\(cls=False\)"),
        (dict(windows=dict(conv_blocks=(4,)), tokens=dict(cls=False)), "conv_blocks"),
        (dict(pos_embed=dict(prefix_rows=2)), "prefix_rows"),
        (dict(arch=dict(embed_dim=15, depth=4, num_heads=2, mlp_ratio=2)), "heads"),
    ],
)
def test_options_that_do_not_fit_are_reported(options, said):
    with pytest.raises(ConfigError, match=said):
        ViT(**{**SMALL, **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        dict(tokens=dict(dist=True)),
        dict(tokens=dict(registers=2), pos_embed=dict(kind="rotary"), block=dict(mlp="swiglu", layer_scale=1.0)),
        dict(tokens=dict(cls=False), windows=dict(size=3, blocks=(0, 2))),
        dict(rel_pos=dict(kind="bias")),
        dict(
            tokens=dict(cls=False), rel_pos=dict(kind="decomposed"), windows=dict(conv_blocks=(1,), size=3, blocks=(0,))
        ),
    ],
)
def test_compiles_without_a_graph_break(options):
    torch._dynamo.reset()
    model = drawn(ViT(**SMALL, **options, out_indices=(1, 3)))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)
    images = torch.randn(1, 3, 36, 50)
    with torch.no_grad():
        for got, want in zip(compiled(images), model(images), strict=True):
            torch.testing.assert_close(got, want)
