"""Attention without the matrix of weights: a loop over tiles of keys, with a running maximum and a running sum.

For one query, softmax over all keys can be merged from softmax over tiles. Let m be the maximum of the scores s so far,
l the sum of exp(s - m) and o the output: a new maximum m' multiplies l and o by exp(m - m').
Source: Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao et al. 2022.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tfguide.checks.values import check_count
from tfguide.torch.attention import check_inputs
from tfguide.torch.masks import Mask
from tfguide.torch.tensors import at_least_float32


def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    tile: int = 128,
) -> Tensor:
    """`scaled_dot_product_attention` in tiles of keys: the same result within rounding, without the (T, S) matrix.

    tile: the number of keys processed together; memory grows with T * tile instead of T * S. The other arguments, the
    shapes and the errors are those of `scaled_dot_product_attention`; also raises ValueError for a tile below 1.
    """
    mask = check_inputs(query, key, value, visible, bias)
    tile = check_count("tile", tile)
    B, T, H, d = query.shape
    S, K = key.shape[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    query = (at_least_float32(query) * scale).unflatten(2, (K, -1))  # (B, T, K, G, d)
    maximum = query.new_full((B, H, T, 1), -math.inf)
    total = torch.zeros_like(maximum)
    output = maximum.new_zeros(B, H, T, value.shape[3])
    for start in range(0, S, tile):
        part = slice(start, start + tile)
        scores = torch.einsum("btkgd,bskd->bkgts", query, at_least_float32(key[:, part])).flatten(1, 2)
        if bias is not None:
            scores = scores + bias[..., part]
        if mask is not None:
            scores = scores.masked_fill(~mask.visible[..., part], -math.inf)
        higher = torch.maximum(maximum, scores.amax(dim=-1, keepdim=True))
        finite = higher.masked_fill(higher == -math.inf, 0.0)  # nothing seen yet: exp(-inf - 0) is 0, never NaN
        weights = torch.exp(scores - finite)
        old = torch.exp(maximum - finite)
        total = total * old + weights.sum(dim=-1, keepdim=True)
        grouped = weights.unflatten(1, (K, -1))  # (B, K, G, T, tile); not normalised, so the sum over values is large
        new = torch.einsum("bkgts,bskd->bkgtd", grouped, at_least_float32(value[:, part])).flatten(1, 2)
        output = output * old + new
        maximum = higher
    output = output / total.masked_fill(total == 0, 1.0)  # 0 for a row that sees nothing
    return torch.einsum("bhtd->bthd", output).to(value.dtype)
