"""Attention taken some queries at a time gives what it gives at once."""

import pytest
import torch
import torch.nn.functional as F

from densevit.kernels import attention as room


@pytest.mark.parametrize("mask", [None, (1, 3, 300, 290), (2, 1, 1, 290)])
@pytest.mark.parametrize("pairs", [1, 10_000, 2**21])
def test_some_queries_at_a_time(monkeypatch, mask, pairs):
    torch.manual_seed(0)
    monkeypatch.setattr(room, "PAIRS", pairs)
    query, key, value = torch.randn(2, 3, 300, 8), torch.randn(2, 3, 290, 8), torch.randn(2, 3, 290, 8)
    added = None if mask is None else torch.randn(mask)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=added)
    with torch.no_grad():
        torch.testing.assert_close(room.plain_attention(query, key, value, added), wanted, rtol=1e-5, atol=1e-5)
        low = room.attention(
            query.bfloat16(), key.bfloat16(), value.bfloat16(), None if added is None else added.bfloat16()
        )
    torch.testing.assert_close(low.float(), wanted, rtol=0.05, atol=0.05)


def test_many_keys_are_looked_at_by_few_queries_at_a_time(monkeypatch):
    held = []
    rows = room._plain_rows
    monkeypatch.setattr(
        room, "_plain_rows", lambda q, k, *more: held.append(q.shape[-2] * k.shape[-2]) or rows(q, k, *more)
    )
    monkeypatch.setattr(room, "PAIRS", 30_000)
    query = torch.randn(1, 1, 400, 8).bfloat16()
    with torch.no_grad():
        room.attention(query, query, query)
    assert len(held) > 1 and max(held) < 1.1 * room.PAIRS
