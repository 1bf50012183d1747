"""Scaled dot-product attention: the one place where its kernel is chosen.

Shape letters: B batch, N queries, M keys, C channels, D = C / heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from densevit.ops.plain import plain_form

FEW_KEYS = 256
"""So few keys are not looked at by parts of the queries: those of windows."""
FEW_KEYS_TRAINED = 512
"""Up to so many keys the plain form, twice as fast, may keep all pairs in bfloat16 for a backward pass on CPUs."""
PAIRS = 2**21
"""Logits that the plain form makes at a time where nothing is trained: about what a processor's caches take."""
ROW = 32
"""Softmax and products in bfloat16 are the faster where a row of many logits is a multiple of so many numbers."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(scale * query key^T + mask) value (arXiv 1706.03762): (B, heads, N, D) -> (B, heads, N, D).

    key, value: (B, heads, M, D). mask: added to the logits, broadcast to (B, heads, N, M). scale: None is 1 / sqrt(D).
    """
    if plain_is_faster(query, key, mask):
        return plain_attention(query, key, value, mask, scale)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def plain_is_faster(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    """On a CPU the plain form is the faster one in bfloat16, as torch's fused one converts tile by tile, and with a
    mask (or what one is made of) that is trained, for which torch has no fused one.
    """
    if plain_form() or query.device.type != "cpu":
        return False
    if query.dtype == torch.bfloat16 and (mask is not None or key.shape[-2] <= FEW_KEYS_TRAINED or _by_rows()):
        return True
    return mask is not None and mask.requires_grad and torch.is_grad_enabled()


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """`attention` step by step. The softmax sums in float32 also where it is given bfloat16."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    rows = queries_at_once(query, value, PAIRS)
    if rows >= query.shape[-2] or key.shape[-2] <= FEW_KEYS:
        return _plain_rows(query, key, value, mask, scale)
    keys = key.shape[-2]
    # the parts of a permuted query would each be copied
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()  # once, not for each part
    if keys % ROW:
        # the added keys get weight 0 below
        key, value = F.pad(key, (0, 0, 0, -keys % ROW)), F.pad(value, (0, 0, 0, -keys % ROW))
    parts = []
    for first in range(0, query.shape[-2], rows):
        some = slice(first, first + rows)
        part = mask[..., some, :] if mask is not None and mask.shape[-2] > 1 else mask
        parts.append(_plain_rows(query[..., some, :], key, value, part, scale, keys))
    return torch.cat(parts, dim=-2)


def queries_at_once(query: Tensor, key: Tensor, pairs: int) -> int:
    """How many of the queries (B, heads, N, D) are looked at together, so that with the keys (B, heads, M, D) about so
    many pairs are held; all where that may not be chosen."""
    return max(1, pairs // max(1, key.shape[-2] * query.shape[:-2].numel())) if _by_rows() else max(1, query.shape[-2])


def _by_rows() -> bool:
    """Whether the plain form may take some queries at a time: a backward pass keeps all pairs anyhow."""
    return not torch.is_grad_enabled() and not plain_form()


def _plain_rows(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, keys: int | None = None
) -> Tensor:
    """query: (B, heads, n, D); key, value: (B, heads, M, D), of which the first `keys` are there (None: all)."""
    pairs = (*query.shape[:-1], key.shape[-2])  # (B, heads, n, M)
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))  # (B*heads, n or M, D): one batch of matrices
    beta = int(mask is not None)
    if torch.is_grad_enabled():
        # baddbmm adds the mask while it multiplies; beta = 0 ignores what it would add
        added = query.new_empty(1) if mask is None else mask.expand(pairs).flatten(0, 1)
        logits = torch.baddbmm(added, query, key.transpose(1, 2), beta=beta, alpha=scale)
    else:
        logits = query.new_empty(pairs)
        if mask is not None:
            logits[..., :keys].copy_(mask)
        logits = logits.flatten(0, 1).baddbmm_(query, key.transpose(1, 2), beta=beta, alpha=scale)
    if keys is not None:
        logits[..., keys:] = -torch.inf
    return (logits.softmax(-1).to(value.dtype) @ value).unflatten(0, pairs[:2])  # (B, heads, n, D)
