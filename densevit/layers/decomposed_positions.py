"""Relative positions told apart by rows and columns (MViTv2, arXiv 2112.01526, section 4.1): what a query thinks of a
key's distance downwards and to the right, two tables instead of one for all pairs.

Shape letters: B batch, D channels of a head, qh, qw size of the queries' map, kh, kw of the keys', R rows of a table.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def decomposed_bias(
    query: Tensor, table_h: Tensor, table_w: Tensor, query_size: tuple[int, int], key_size: tuple[int, int]
) -> Tensor:
    """(B, heads, qh*qw, kh*kw): what is added to the logits.

    query: (B, heads, qh*qw, D), before any scale. table_h, table_w: see `of_each_pair`.
    """
    down, right = decomposed_terms(query, table_h, table_w, query_size, key_size)
    return (down.unsqueeze(-1) + right.unsqueeze(-2)).flatten(3)


def decomposed_terms(
    query: Tensor, table_h: Tensor, table_w: Tensor, query_size: tuple[int, int], key_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The two summands of `decomposed_bias`, for each row of keys and for each column: (B, heads, qh*qw, kh) and
    (B, heads, qh*qw, kw)."""
    rows = of_each_pair(table_h, query_size[0], key_size[0]).to(query.dtype)  # (qh, kh, D)
    columns = of_each_pair(table_w, query_size[1], key_size[1]).to(query.dtype)  # (qw, kw, D)
    query = query.unflatten(2, query_size)
    down = torch.einsum("bnhwd,hkd->bnhwk", query, rows)
    right = torch.einsum("bnhwd,wkd->bnhwk", query, columns)
    return down.flatten(2, 3), right.flatten(2, 3)


def of_each_pair(table: Tensor, queries: int, keys: int) -> Tensor:
    """(queries, keys, D): the row of a table (R, D) for two places of one side of the maps.

    A table of another size than 2 * max(queries, keys) - 1 is resized linearly. Where one map is coarser than the
    other, its places stand at its own steps, and distances are rounded down (detectron2's and MViT's).
    """
    table = resize_rows(table, 2 * max(queries, keys) - 1)
    return table[distances(queries, keys, table.device)]


def resize_rows(table: Tensor, rows: int) -> Tensor:
    """A table (R, D) with another number of rows, resized linearly."""
    if len(table) == rows:
        return table
    return F.interpolate(table.t()[None], rows, mode="linear", align_corners=False)[0].t()


@torch.compiler.assume_constant_result
def distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys): which of 2 * max(queries, keys) - 1 rows belongs to two places; kept for a few sizes."""
    return _distances(queries, keys, device)


@lru_cache(maxsize=32)
def _distances(queries: int, keys: int, device: torch.device) -> Tensor:
    # also a first call within inference_mode gives a tensor that a later training step may save
    with torch.inference_mode(False):
        query_step, key_step = max(keys / queries, 1.0), max(queries / keys, 1.0)
        places = torch.arange(queries)[:, None] * query_step - torch.arange(keys)[None, :] * key_step
        return (places + (keys - 1) * key_step).long().to(device)
