"""Scaled dot-product attention over grouped heads, its masks, and multi-head attention."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfguide.checks.shapes import (
    check_attention,
    check_boolean,
    check_head_sizes,
    check_hidden,
    check_mask_sizes,
    check_valid,
)
from tfguide.tensorflow.linear import linear
from tfguide.tensorflow.positions import rotate


def causal_mask(n_queries: int, n_keys: int | None = None, window: int | None = None) -> tf.Tensor:
    """Which keys each query may see when it may not look ahead: boolean (T, S), True = may look.

    The queries are the last `n_queries` of the `n_keys` positions. With a `window`, a query sees itself and the
    `window - 1` positions before it. Raises ValueError for sizes below 1 or more queries than keys.

    >>> tf.cast(causal_mask(3), tf.int32).numpy().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    n_keys = n_queries if n_keys is None else n_keys
    n_queries, n_keys, window = check_mask_sizes(n_queries, n_keys, window)
    query = tf.range(n_keys - n_queries, n_keys)[:, None]  # (T, 1)
    key = tf.range(n_keys)[None, :]  # (1, S)
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return visible


def padding_mask(valid: tf.Tensor) -> tf.Tensor:
    """The visibility of padded keys: `valid` (B, S), True at real tokens, becomes (B, 1, S) for every query."""
    valid = tf.convert_to_tensor(valid)
    check_valid("valid", shape_of(valid), valid.dtype == tf.bool, valid.dtype.name, shape_of(valid))
    return valid[:, None, :]


def attention_weights(
    query: tf.Tensor,
    key: tf.Tensor,
    visible: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """The weights `softmax(scale * Q K^T + bias)` over the visible keys, (B, H, T, S), float32 at least.

    query: (B, T, H, d); key: (B, S, K, d), K dividing H: query head h uses key head `h // (H / K)`.
    visible: boolean (T, S), (B, T, S) or (B, H, T, S); True = may look.
    bias: (H, T, S) or (B, H, T, S), added to the scores.
    scale: `1 / sqrt(d)` unless told.

    Each row sums to 1. The weights of a query that may look at nothing are all 0, never NaN.
    Raises ValueError for shapes that do not fit, TypeError where `visible` is not boolean.
    Source: Vaswani et al. 2017, equation 1; grouped heads: Ainslie et al. 2023.
    """
    query, key, _, visible = _checked(query, key, key, visible, bias)
    weights = tf.nn.softmax(_scores(query, key, visible, bias, scale))
    if visible is None:
        return weights
    return tf.where(visible, weights, 0.0)  # only a query that sees nothing has weight on a hidden key


def scaled_dot_product_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    visible: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """Attention: for each query the mean of the values, weighted by `attention_weights`; (B, T, H, d).

    value: (B, S, K, d_v); the other arguments and the errors are those of `attention_weights`.
    The output of a query that may look at nothing is 0.
    """
    query, key, value, visible = _checked(query, key, value, visible, bias)
    weights = tf.nn.softmax(_scores(query, key, visible, bias, scale))  # (B, H, T, S)
    B, H, T, S = sizes_of(weights)
    K, d_v = value.shape[2:]
    weights = tf.reshape(weights, (B, K, H // K, T, S))
    output = tf.einsum("bkgts,bskd->btkgd", weights, at_least_float32(value))  # (B, T, K, G, d)
    output = tf.cast(tf.reshape(output, (B, T, H, d_v)), value.dtype)
    if visible is None:
        return output
    sees_something = tf.transpose(tf.reduce_any(visible, axis=-1), (0, 2, 1))  # sizes of 1 where all are alike
    return tf.where(sees_something[..., None], output, tf.zeros((), output.dtype))


def _scores(query, key, visible, bias, scale):
    """The scores (B, H, T, S), the lowest number where a key is hidden."""
    B, T, H, d = sizes_of(query)
    S, K = sizes_of(key)[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    query, key = at_least_float32(query), at_least_float32(key)  # a product of float16 may not fit into float16
    query = tf.reshape(query * scale, (B, T, K, H // K, d))  # heads of a group share a key
    scores = tf.einsum("btkgd,bskd->bkgts", query, key)  # (B, K, G, T, S)
    scores = tf.reshape(scores, (B, H, T, S))
    if bias is not None:
        scores += tf.cast(bias, scores.dtype)
    if visible is None:
        return scores
    lowest = scores.dtype.min  # not -inf, which makes NaN of a row with nothing to see
    return scores + tf.where(visible, tf.zeros((), scores.dtype), lowest)


def fused_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    visible: tf.Tensor | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """`scaled_dot_product_attention` as one program of the framework; its arguments, its result, its errors.

    PyTorch: its own kernel, which goes through the keys in tiles and keeps a running maximum and sum in float32, so
    that the weights (B, H, T, S) are never in memory (Dao et al. 2022). TensorFlow: the formula compiled by XLA, once
    for each combination of shapes, which saves the passes between its steps but not the weights.
    """
    query, key, value, visible = _checked(query, key, value, visible, bias)
    return _by_xla(query, key, value, visible, bias, 1 / math.sqrt(query.shape[3]) if scale is None else scale)


_by_xla = tf.function(scaled_dot_product_attention, jit_compile=True, autograph=False)


class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: project to heads, attend in each, and project their concatenation back to D.

    `n_kv_heads` = `n_heads` is multi-head, 1 is multi-query, a divisor between is grouped-query attention.
    `query`, `key`, `value`: D to heads; `output`: heads to D. Source: Vaswani et al. 2017, section 3.2.2.

    Raises ValueError where `n_kv_heads` does not divide `n_heads`, or where `d_head` is not given and `n_heads` does
    not divide `d_model`; TypeError for sizes that are not integers.
    """

    output = None  # Keras keeps a graph's output tensor under this name; here it is the output projection

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        qkv_bias: bool = True,
        output_bias: bool = True,
        scale: float | None = None,
    ):
        super().__init__(autocast=False)  # the angles and the bias are float32 in any model
        n_kv_heads, d_head = check_head_sizes(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = d_model, n_heads, n_kv_heads, d_head
        self.scale = scale
        self.query = linear(d_model, n_heads * d_head, bias=qkv_bias)
        self.key = linear(d_model, n_kv_heads * d_head, bias=qkv_bias)
        self.value = linear(d_model, n_kv_heads * d_head, bias=qkv_bias)
        self.output = linear(n_heads * d_head, d_model, bias=output_bias)
        self.built = True

    def call(self, x, memory=None, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to itself, or to `memory` (B, S, D) where given; (B, T, D).

        `visible` and `bias` as in `attention_weights`; `rotation`: the angles of `rotary_angles`, for self-attention.
        """
        key, value = self.keys_values(x if memory is None else memory, rotation)
        return self.attend(x, key, value, visible, bias, rotation)

    def attend(self, x, key, value, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to keys and values that are already projected, (B, S, K, d); (B, T, D)."""
        heads = scaled_dot_product_attention(self._queries(x, rotation), key, value, visible, bias, self.scale)
        B, T, H, d = sizes_of(heads)
        return self.output(tf.reshape(heads, (B, T, H * d)))

    def keys_values(self, x, rotation=None):
        """The keys and the values of `x` (B, S, D): two tensors (B, S, K, d). This is what a KV cache keeps."""
        check_hidden("memory", shape_of(x), self.d_model)
        key = self._split(self.key(x), self.n_kv_heads)  # (B, S, K, d)
        value = self._split(self.value(x), self.n_kv_heads)
        return (key if rotation is None else rotate(key, *rotation)), value

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) behind the output, to look at; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        return attention_weights(self._queries(x, rotation), key, visible, bias, self.scale)

    def _queries(self, x, rotation):
        check_hidden("x", shape_of(x), self.d_model)
        query = self._split(self.query(x), self.n_heads)  # (B, T, H, d)
        return query if rotation is None else rotate(query, *rotation)

    def _split(self, x, n_heads):
        B, T, _ = sizes_of(x)
        return tf.reshape(x, (B, T, n_heads, self.d_head))


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """x in float32, or as it is where it is wider: half precision has too few digits for a sum of exponentials."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def shape_of(x) -> tuple[int | None, ...]:
    """The shape as far as it is known before the run: a size is None in a graph that serves any size."""
    return tuple(x.shape)


def sizes_of(x: tf.Tensor) -> list:
    """The size of every axis: an int where it is known, else a scalar tensor."""
    sizes = tf.shape(x) if None in x.shape else x.shape
    return [sizes[i] if size is None else size for i, size in enumerate(x.shape)]


def _checked(query, key, value, visible, bias):
    query, key, value = (tf.convert_to_tensor(tensor) for tensor in (query, key, value))
    if visible is not None:
        visible = tf.convert_to_tensor(visible)
        check_boolean("visible", visible.dtype == tf.bool, visible.dtype.name)
    shapes = [None if tensor is None else shape_of(tensor) for tensor in (visible, bias)]
    check_attention(shape_of(query), shape_of(key), shape_of(value), *shapes)
    if visible is not None and len(visible.shape) < 4:  # (B or 1, 1, T, S): every head alike
        visible = visible[:, None] if len(visible.shape) == 3 else visible[None, None]
    return query, key, value, visible
