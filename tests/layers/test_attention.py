"""Attention taken some queries at a time gives what it gives at once."""

import pytest
import torch
import torch.nn.functional as F

from densevit.layers import attention as room


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
