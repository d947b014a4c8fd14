"""Attention without the matrix of weights: the keys go by in tiles, with a running maximum and a running sum.

For one query, softmax over all keys is the same as softmax over tiles that are merged. With the scores s of a tile, a
maximum m so far, a sum l of exp(s - m) and an output o, a new maximum m' turns l into l exp(m - m') and o likewise.
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

    tile: how many keys are looked at together; memory grows with T * tile instead of T * S. The other arguments, the
    shapes and the errors are those of `scaled_dot_product_attention`; ValueError for a tile below 1 as well.
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
        grouped = tf.reshape(weights, (B, K, H // K, T, -1))  # up to 1 each, so their sum times values is large
        new = tf.einsum("bkgts,bskd->bkgtd", grouped, at_least_float32(value[:, part]))
        output = output * old + tf.reshape(new, (B, H, T, d_value))
        maximum = higher
    output = output / tf.where(total == 0, 1.0, total)  # a row that sees nothing: 0
    return tf.cast(tf.einsum("bhtd->bthd", output), value.dtype)
