"""Decomposed relative positions against a loop over all pairs."""

import pytest
import torch
import torch.nn.functional as F

from densevit.models.layers import decomposed_rel_pos
from densevit.models.layers.decomposed_rel_pos import decomposed_attention, decomposed_bias, of_each_pair


def resized(table: torch.Tensor, rows: int) -> torch.Tensor:
    """Linear interpolation between row centers, written out."""
    out = torch.empty(rows, table.shape[1])
    for i in range(rows):
        location = min(max((i + 0.5) * len(table) / rows - 0.5, 0), len(table) - 1)
        low = int(location)
        high, part = min(low + 1, len(table) - 1), location - low
        out[i] = table[low] * (1 - part) + table[high] * part
    return out


@pytest.mark.parametrize(
    ("query_size", "key_size", "rows"),
    [
        ((3, 4), (3, 4), (5, 7)),  # made for this size
        ((3, 4), (3, 4), (13, 4)),  # longer and shorter tables
        ((6, 8), (3, 2), (11, 15)),  # fewer keys: MViT pools them
        ((7, 5), (3, 2), (13, 9)),  # by no whole number
        ((2, 3), (5, 7), (9, 13)),  # fewer queries
        ((1, 1), (1, 1), (27, 27)),
    ],
)
def test_every_pair_has_the_sum_of_its_rows_and_its_columns_term(query_size, key_size, rows):
    torch.manual_seed(0)
    (qh, qw), (kh, kw) = query_size, key_size
    query = torch.randn(2, 3, qh * qw, 6)
    tables = [torch.randn(n, 6) for n in rows]
    table_h, table_w = (resized(t, 2 * max(q, k) - 1) for t, q, k in zip(tables, query_size, key_size, strict=True))

    def row(q: int, k: int, queries: int, keys: int) -> int:
        """Steps of the coarser map are as long as its ratio to the finer one; the smallest distance is row 0."""
        finer = max(queries, keys)
        return int(q * (finer / queries) - k * (finer / keys) + (keys - 1) * (finer / keys))

    want = torch.empty(2, 3, qh * qw, kh * kw)
    for i in range(qh * qw):
        for j in range(kh * kw):
            down = table_h[row(i // qw, j // kw, qh, kh)]
            right = table_w[row(i % qw, j % kw, qw, kw)]
            want[:, :, i, j] = query[:, :, i] @ down + query[:, :, i] @ right
    torch.testing.assert_close(decomposed_bias(query, *tables, query_size, key_size), want)


def test_a_table_of_the_right_size_is_read_as_it_is():
    table = torch.arange(7.0)[:, None]
    got = of_each_pair(table, 4, 4)[..., 0]
    assert got.tolist() == [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]


def test_gradients_reach_the_tables_through_resizing_after_a_prediction_in_inference_mode():
    query = torch.randn(1, 2, 35, 4)
    with torch.inference_mode():  # fills the cache
        of_each_pair(torch.randn(27, 4), 5, 5)
    table = torch.randn(27, 4, requires_grad=True)
    decomposed_bias(query, table, table, (5, 7), (5, 7)).square().sum().backward()
    assert (table.grad.abs().sum(1) > 0).sum() >= 9


def test_half_precision_gives_what_full_precision_gives():
    torch.manual_seed(0)
    query, table = torch.randn(1, 2, 12, 8), torch.randn(9, 8)
    exact = decomposed_bias(query, table, table, (3, 4), (3, 4))
    rough = decomposed_bias(query.bfloat16(), table, table, (3, 4), (3, 4))
    assert rough.dtype == torch.bfloat16
    assert F.l1_loss(rough.float(), exact) < 0.02 * exact.abs().mean() + 0.02


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize(("query_size", "key_size"), [((4, 5), (4, 5)), ((6, 4), (3, 2))])
@pytest.mark.parametrize("most", [0, 10_000], ids=["many keys", "few keys"])
def test_every_form_gives_the_numbers_and_the_gradients_of_the_definition(
    query_size, key_size, prefix, most, monkeypatch
):
    monkeypatch.setattr(decomposed_rel_pos, "MANY_KEYS", most)
    torch.manual_seed(0)
    queries, keys = (prefix + h * w for h, w in (query_size, key_size))
    shapes = [(2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8), (7, 8), (9, 8)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    query, key, value, *tables = given
    bias = decomposed_bias(query[:, :, prefix:], *tables, query_size, key_size)
    logits = query @ key.transpose(2, 3) / 8**0.5 + F.pad(bias, (prefix, 0, prefix, 0))
    want = logits.softmax(-1) @ value
    got = decomposed_attention(*given, query_size, key_size, prefix)
    torch.testing.assert_close(got, want)
    weight = torch.randn_like(want)
    for mine, theirs in zip(*(torch.autograd.grad((x * weight).sum(), given) for x in (got, want)), strict=True):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(decomposed_attention(*given, query_size, key_size, prefix), want)
        monkeypatch.setattr(decomposed_rel_pos, "BIASES", 200)  # a few queries at a time
        torch.testing.assert_close(decomposed_attention(*given, query_size, key_size, prefix), want)
