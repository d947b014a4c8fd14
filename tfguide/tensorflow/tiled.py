"""Attention without the matrix of weights: a loop over tiles of keys, with a running maximum and a running sum.

For one query, softmax over all keys can be merged from softmax over tiles. Let m be the maximum of the scores s so far,
l the sum of exp(s - m) and o the output: a new maximum m' multiplies l and o by exp(m - m').
Source: Milakov & Gimelshein 2018; Rabe & Staats 2021; Dao et al. 2022.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tfguide.checks.values import check_count
from tfguide.tensorflow.attention import check_inputs
from tfguide.tensorflow.masks import Mask
from tfguide.tensorflow.tensors import at_least_float32, sizes_of


def tiled_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    visible: tf.Tensor | Mask | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
    tile: int = 128,
) -> tf.Tensor:
    """`scaled_dot_product_attention` in tiles of keys: the same result within rounding, without the (T, S) matrix.

    tile: the number of keys processed together; memory grows with T * tile instead of T * S. The other arguments, the
    shapes and the errors are those of `scaled_dot_product_attention`; also raises ValueError for a tile below 1.
    """
    query, key, value, mask = check_inputs(query, key, value, visible, bias)
    tile = check_count("tile", tile)
    B, T, H, d = sizes_of(query)
    S, K, d_value = key.shape[1], key.shape[2], value.shape[3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    query = tf.reshape(at_least_float32(query) * scale, (B, T, K, H // K, d))
    maximum = tf.fill((B, H, T, 1), -math.inf)
    total = tf.zeros((B, H, T, 1))
    output = tf.zeros((B, H, T, d_value))
    for start in range(0, S, tile):
        part = slice(start, start + tile)
        scores = tf.einsum("btkgd,bskd->bkgts", query, at_least_float32(key[:, part]))
        scores = tf.reshape(scores, (B, H, T, -1))  # (B, H, T, tile)
        if bias is not None:
            scores = scores + tf.cast(bias[..., part], scores.dtype)
        if mask is not None:
            scores = tf.where(mask.visible[..., part], scores, -math.inf)
        higher = tf.maximum(maximum, tf.reduce_max(scores, axis=-1, keepdims=True))
        finite = tf.where(higher == -math.inf, 0.0, higher)  # nothing seen yet: exp(-inf - 0) is 0, never NaN
        weights = tf.exp(scores - finite)
        old = tf.exp(maximum - finite)
        total = total * old + tf.reduce_sum(weights, axis=-1, keepdims=True)
        grouped = tf.reshape(weights, (B, K, H // K, T, -1))  # not normalised, so the sum over values is large
        new = tf.einsum("bkgts,bskd->bkgtd", grouped, at_least_float32(value[:, part]))
        output = output * old + tf.reshape(new, (B, H, T, d_value))
        maximum = higher
    output = output / tf.where(total == 0, 1.0, total)  # 0 for a row that sees nothing
    return tf.cast(tf.einsum("bhtd->bthd", output), value.dtype)
