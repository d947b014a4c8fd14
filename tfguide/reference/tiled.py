"""Attention without the matrix of weights: keys are read in tiles, with a running maximum and a running sum.

For one query, softmax over all keys equals softmax over tiles that are merged. Let m be the maximum of the scores s so
far, l the sum of exp(s - m) and o the output. Where a tile has a larger maximum m', l and o are multiplied by
exp(m - m') before the tile is added.
Source: Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao et al. 2022.
"""

from __future__ import annotations

import math

import numpy as np

from tfguide.checks.values import check_count
from tfguide.reference.attention import as_attention_inputs


def tiled_attention(query, key, value, visible=None, bias=None, scale=None, tile=128):
    """`scaled_dot_product_attention` in tiles of keys: the same result within rounding, without the (T, S) matrix.

    tile: the number of keys in a tile; memory grows with T * tile instead of T * S. The other arguments, the shapes and
    the errors are those of `scaled_dot_product_attention`. Raises ValueError for a tile below 1 as well.
    """
    query, key, visible, bias = as_attention_inputs(query, key, value, visible, bias)
    value = np.asarray(value, np.float64)
    tile = check_count("tile", tile)
    B, T, H, d = query.shape
    S, K = key.shape[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    query = (query * scale).reshape(B, T, K, H // K, d)
    maximum = np.full((B, H, T, 1), -np.inf)
    total = np.zeros((B, H, T, 1))
    output = np.zeros((B, H, T, value.shape[3]))
    for start in range(0, S, tile):
        part = slice(start, start + tile)
        scores = np.einsum("btkgd,bskd->bkgts", query, key[:, part]).reshape(B, H, T, -1)  # (B, H, T, tile)
        if bias is not None:
            scores = scores + bias[..., part]
        if visible is not None:
            scores = np.where(visible[..., part], scores, -np.inf)
        higher = np.maximum(maximum, scores.max(axis=-1, keepdims=True))
        finite = np.where(higher == -np.inf, 0.0, higher)  # nothing seen yet: exp(-inf - 0) is 0, never NaN
        weights = np.exp(scores - finite)
        old = np.exp(maximum - finite)
        total = total * old + weights.sum(axis=-1, keepdims=True)
        grouped = weights.reshape(B, K, H // K, T, -1)
        new = np.einsum("bkgts,bskd->bkgtd", grouped, value[:, part]).reshape(output.shape)
        output = output * old + new
        maximum = higher
    return np.einsum("bhtd->bthd", output / np.where(total == 0, 1.0, total))  # a row that sees nothing: 0
