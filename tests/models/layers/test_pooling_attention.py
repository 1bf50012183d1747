"""Pooling attention against its definition, head by head and window by window."""

import pytest
import torch
import torch.nn.functional as F

from densevit.errors import ConfigError
from densevit.models.layers.pooling_attention import PoolingAttention


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """The module with every parameter away from ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def pooled(attn, name: str, x: torch.Tensor) -> torch.Tensor:
    """One head's map (h, w, D) of queries, keys or values, pooled and normed."""
    y = getattr(attn, f"pool_{name}")(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    return getattr(attn, f"norm_{name}")(y)


def looked_up(table: torch.Tensor, query: int, key: int, queries: int, keys: int) -> torch.Tensor:
    """The row for two locations of one side, where the coarser side's locations are further apart."""
    rows = 2 * max(queries, keys) - 1
    table = F.interpolate(table.t()[None], rows, mode="linear", align_corners=False)[0].t()
    wide, high = max(keys / queries, 1.0), max(queries / keys, 1.0)
    return table[int(query * wide - key * high + (keys - 1) * high)]


def by_hand(attn: PoolingAttention, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What `attn` gives for one image's tokens (h*w, C) without a class token."""
    width = attn.qkv.out_features // 3 // attn.num_heads
    parts = attn.qkv(x).view(*size, 3, attn.num_heads, width)
    heads = []
    for head in range(attn.num_heads):
        query, key, value = (pooled(attn, name, parts[:, :, i, head]) for i, name in enumerate("qkv"))
        height, across = query.shape[:2]
        tall, wide = (attn.q_window or height), (attn.q_window or across)
        key_tall, key_wide = (attn.kv_window or key.shape[0]), (attn.kv_window or key.shape[1])
        key, value = (F.pad(y, (0, 0, 0, -y.shape[1] % key_wide, 0, -y.shape[0] % key_tall)) for y in (key, value))
        out = torch.zeros_like(query)
        for i in range(height):
            for j in range(across):
                top, left = i // tall * key_tall, j // wide * key_wide
                logits = torch.empty(key_tall, key_wide)
                for a in range(key_tall):
                    for b in range(key_wide):
                        down = looked_up(attn.rel_pos_h, i % tall, a, tall, key_tall)
                        right = looked_up(attn.rel_pos_w, j % wide, b, wide, key_wide)
                        logits[a, b] = query[i, j] @ (key[top + a, left + b] / width**0.5 + down + right)
                weights = logits.flatten().softmax(0)
                out[i, j] = weights @ value[top : top + key_tall, left : left + key_wide].flatten(0, 1) + query[i, j]
        heads.append(out.flatten(0, 1))
    return attn.proj(torch.cat(heads, -1))


@pytest.mark.parametrize(
    ("strides", "window", "size"),
    [((1, 2), 4, (6, 9)), ((2, 1), 4, (7, 5)), ((2, 2), 0, (9, 6)), ((1, 4), 0, (7, 10)), ((1, 1), 8, (3, 5))],
)
def test_it_equals_its_definition_place_by_place(strides, window, size):
    attn = drawn(PoolingAttention(6, 8, 2, *strides, window=window, grid=8))
    x = torch.randn(2, size[0] * size[1], 6)
    want = [by_hand(attn, image, size) for image in x.detach()]
    with torch.no_grad():
        torch.testing.assert_close(attn(x, size), torch.stack(want), rtol=1e-4, atol=1e-5)
    # a trained bias takes another form of attention
    torch.testing.assert_close(attn(x.requires_grad_(), size), torch.stack(want), rtol=1e-4, atol=1e-5)


def test_a_class_token_attends_without_place_or_pooling_and_the_patches_see_it():
    attn = drawn(PoolingAttention(6, 8, 2, 2, 2, grid=8, prefix=1))
    x = torch.randn(1, 1 + 30, 6)
    query, key, value = (
        torch.cat(
            [
                torch.cat((getattr(attn, f"norm_{name}")(first), pooled(attn, name, rest.view(5, 6, 4)).flatten(0, 1)))
                for first, rest in ((y[:1, h], y[1:, h]) for h in range(2))
            ],
            -1,
        ).view(-1, 2, 4)
        for name, y in zip("qkv", attn.qkv(x[0]).view(31, 3, 2, 4).unbind(1), strict=True)
    )
    with torch.no_grad():
        logits = query[0] @ key.transpose(0, 1).mT / 2  # (heads, keys): the token's own query
        token = torch.einsum("hk,khd->hd", logits.diagonal(0, 0, 1).t().softmax(-1), value).flatten()
        torch.testing.assert_close(attn(x, (5, 6))[0, 0], attn.proj(token))
        hidden = x.clone()
        hidden[:, 0] = 7.0
        assert (attn(hidden, (5, 6)) - attn(x, (5, 6)))[:, 1:].abs().amin(-1).min() > 0


def test_timms_class_token_takes_part_in_residual_pooling():
    plain, timms = (PoolingAttention(6, 8, 2, grid=8, prefix=1, prefix_residual=with_it) for with_it in (False, True))
    timms.load_state_dict(drawn(plain).state_dict())
    x = torch.randn(1, 1 + 12, 6)
    with torch.no_grad():
        one, other = plain(x, (3, 4)), timms.eval()(x, (3, 4))
        own = plain.norm_q(plain.qkv(x[0, 0])[:8].view(2, 4)).flatten()
        torch.testing.assert_close(other[0, 0] - one[0, 0], plain.proj.weight @ own, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other[:, 1:], one[:, 1:])


def test_tables_of_another_grid_are_resized_linearly_when_they_are_loaded():
    small, large = drawn(PoolingAttention(6, 8, 2, grid=4)), PoolingAttention(6, 8, 2, grid=7)
    large.load_state_dict(small.state_dict())
    want = F.interpolate(small.rel_pos_h.t()[None], 13, mode="linear", align_corners=False)[0].t()
    torch.testing.assert_close(large.rel_pos_h, want)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(q_stride=2, window=7), "no multiple"),
        (dict(kv_stride=4, window=14), "no multiple"),
        (dict(window=4, prefix=1), "class token"),
    ],
)
def test_what_does_not_go_together_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        PoolingAttention(6, 8, 2, **options)
