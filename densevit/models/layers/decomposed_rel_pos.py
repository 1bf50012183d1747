"""Decomposed relative positions (MViTv2, arXiv 2112.01526, section 4.1): a term of the query for a key's distance in
rows and one for its distance in columns, two tables instead of one for all pairs.

Shape letters: B batch, D channels of a head, qh, qw size of the queries' map, kh, kw of the keys', R rows of a table.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.kernels.attention import attention, plain_attention, plain_is_faster, queries_at_once
from densevit.ops.caching import by_bytes
from densevit.ops.plain import plain_form

BIASES = 2**24
"""Numbers of a bias that are made at a time where nothing is trained, so that memory does not grow with all pairs."""
MANY_KEYS = 2048
"""With more keys than these nothing of all pairs is kept for a backward pass: bias, logits and weights of an image of
64x64 patches and 12 heads are 2.4 GB a block. On CPUs that is paid for with 1.2 (float32) to 1.9 (bfloat16) times the
time."""


def decomposed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table_h: Tensor,
    table_w: Tensor,
    query_size: tuple[int, int],
    key_size: tuple[int, int],
    prefix: int = 0,
) -> Tensor:
    """`attention` with `decomposed_bias`, (B, heads, prefix + qh*qw, D); the first `prefix` tokens have no positions.

    In the plain form, and in torch's fused one where a bias of all pairs would cost too much memory, the terms are
    further columns of the queries, and each key marks its own with ones: one product of matrices gives the logits with
    their bias, which is never there by itself.
    """
    terms = decomposed_terms(query[:, :, prefix:], table_h, table_w, query_size, key_size)
    kept = key.shape[-2] > MANY_KEYS and query.requires_grad and torch.is_grad_enabled()
    fused = kept or query.is_cuda  # not on 'meta', where multiply-adds are counted
    if plain_form():
        bias = decomposed_bias(query[:, :, prefix:], table_h, table_w, query_size, key_size)
        return attention(query, key, value, F.pad(bias, (prefix, 0, prefix, 0)) if prefix else bias)
    if not fused and not plain_is_faster(query, key, terms[0]):
        down, right = (F.pad(term, (0, 0, prefix, 0)) if prefix else term for term in terms)
        rows, done = queries_at_once(query, key, BIASES), []
        for first in range(0, query.shape[-2], rows):
            some = slice(first, first + rows)
            bias = (down[:, :, some].unsqueeze(-1) + right[:, :, some].unsqueeze(-2)).flatten(3)  # (B, heads, n, kh*kw)
            bias = F.pad(bias, (prefix, 0)) if prefix else bias
            done.append(attention(query[:, :, some], key, value, bias))
        return done[0] if len(done) == 1 else torch.cat(done, -2)
    # columns: (B, heads, N, kh + kw); marks: (kh*kw, kh + kw)
    columns, marks = torch.cat(terms, -1), marks_of(key_size, key.device).to(key.dtype)
    if prefix:
        columns, marks = F.pad(columns, (0, 0, prefix, 0)), F.pad(marks, (0, 0, prefix, 0))
    # one product of (.., D + kh + kw) matrices: scaled query times key, and the two terms that a key marks
    wide = torch.cat((query * query.shape[-1] ** -0.5, columns), -1)
    marked = torch.cat((key, marks.expand(*key.shape[:2], -1, -1)), -1)
    if fused:  # whose kernels want one width
        filled = F.pad(value, (0, marked.shape[-1] - value.shape[-1]))
        return attention(wide, marked, filled, scale=1.0)[..., : value.shape[-1]]
    return plain_attention(wide, marked, value, scale=1.0)


def decomposed_bias(
    query: Tensor, table_h: Tensor, table_w: Tensor, query_size: tuple[int, int], key_size: tuple[int, int]
) -> Tensor:
    """(B, heads, qh*qw, kh*kw): what is added to the logits.

    query: (B, heads, qh*qw, D), before any scale. table_h, table_w: see `of_each_pair`.
    """
    down, right = decomposed_terms(query, table_h, table_w, query_size, key_size)
    return (down.unsqueeze(-1) + right.unsqueeze(-2)).flatten(3)  # (.., kh, 1) + (.., 1, kw) -> kh*kw


def decomposed_terms(
    query: Tensor, table_h: Tensor, table_w: Tensor, query_size: tuple[int, int], key_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The two summands of `decomposed_bias`, for each row of keys and for each column: (B, heads, qh*qw, kh) and
    (B, heads, qh*qw, kw)."""
    rows = of_each_pair(table_h, query_size[0], key_size[0]).to(query.dtype)  # (qh, kh, D)
    columns = of_each_pair(table_w, query_size[1], key_size[1]).to(query.dtype)  # (qw, kw, D)
    query = query.unflatten(2, query_size)  # (B, heads, qh, qw, D)
    # each query with the rows of its own row (column) of the map: (B, heads, qh, qw, kh or kw)
    down = torch.einsum("bnhwd,hkd->bnhwk", query, rows)
    right = torch.einsum("bnhwd,wkd->bnhwk", query, columns)
    return down.flatten(2, 3), right.flatten(2, 3)  # (B, heads, qh*qw, kh), (.., kw)


def of_each_pair(table: Tensor, queries: int, keys: int) -> Tensor:
    """(queries, keys, D): the row of a table (R, D) for two locations of one side of the maps.

    A table of another size than 2 * max(queries, keys) - 1 is resized linearly. Where one map is coarser than the
    other, its locations stand at its own steps, and distances are rounded down (detectron2's and MViT's).
    """
    table = resize_rows(table, 2 * max(queries, keys) - 1)
    return table[distances(queries, keys, table.device)]


def resize_rows(table: Tensor, rows: int) -> Tensor:
    """A table (R, D) with another number of rows, resized linearly."""
    if len(table) == rows:
        return table
    # linear over the rows, the last axis of F.interpolate
    return F.interpolate(table.t()[None], rows, mode="linear", align_corners=False)[0].t()


def fit_rows(table: Tensor, rows: int) -> Tensor | None:
    """A file's table with our number of rows; None where it is no such table."""
    return resize_rows(table, rows) if table.ndim == 2 else None


@by_bytes
def distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys): which of 2 * max(queries, keys) - 1 rows belongs to two locations; kept for a few sizes."""
    query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
    locations = torch.arange(queries)[:, None] * query_step - torch.arange(keys)[None, :] * key_step
    return (locations + (keys - 1) * key_step).long().to(device)


@by_bytes
def marks_of(size: tuple[int, int], device: torch.device) -> Tensor:
    """(kh*kw, kh + kw): a one for each location's row and for its column; kept for a few sizes."""
    # (kh*kw, kh), (kh*kw, kw)
    rows, columns = torch.eye(size[0]).repeat_interleave(size[1], 0), torch.eye(size[1]).repeat(size[0], 1)
    return torch.cat((rows, columns), 1).to(device)
