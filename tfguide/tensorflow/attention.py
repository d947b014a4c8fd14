"""Scaled dot-product attention over grouped heads, and multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from tfguide.checks.shapes import (
    check_attention,
    check_head_sizes,
    check_hidden,
)
from tfguide.tensorflow.linear import linear
from tfguide.tensorflow.masks import Mask
from tfguide.tensorflow.positions import rotate
from tfguide.tensorflow.tensors import at_least_float32, shape_of, sizes_of


def attention_weights(
    query: tf.Tensor,
    key: tf.Tensor,
    visible: tf.Tensor | Mask | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """The weights `softmax(scale * Q K^T + bias)` over the visible keys, (B, H, T, S), float32 at least.

    query: (B, T, H, d); key: (B, S, K, d), K dividing H: query head h uses key head `h // (H / K)`.
    visible: boolean (T, S), (B, T, S) or (B, H, T, S); True = may look.
    bias: (H, T, S) or (B, H, T, S), added to the scores.
    scale: default `1 / sqrt(d)`.

    Each row sums to 1. The weights of a query that may look at nothing are all 0, never NaN.
    Raises ValueError for shapes that do not fit, TypeError if `visible` is not boolean.
    Source: Vaswani et al. 2017, equation 1; grouped heads: Ainslie et al. 2023.
    """
    query, key, _, mask = check_inputs(query, key, key, visible, bias)
    weights = tf.nn.softmax(_scores(query, key, mask, bias, scale))
    if mask is None:
        return weights
    return tf.where(mask.visible, weights, 0.0)  # only a query that sees nothing has weight on a hidden key


def scaled_dot_product_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    visible: tf.Tensor | Mask | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """Attention: for each query the mean of the values, weighted by `attention_weights`; (B, T, H, d).

    value: (B, S, K, d_v); the other arguments and the errors are those of `attention_weights`.
    The output of a query that may look at nothing is 0.
    """
    query, key, value, mask = check_inputs(query, key, value, visible, bias)
    weights = tf.nn.softmax(_scores(query, key, mask, bias, scale))  # (B, H, T, S)
    B, H, T, S = sizes_of(weights)
    K, d_v = value.shape[2:]
    weights = tf.reshape(weights, (B, K, H // K, T, S))
    output = tf.einsum("bkgts,bskd->btkgd", weights, at_least_float32(value))  # (B, T, K, G, d)
    output = tf.cast(tf.reshape(output, (B, T, H, d_v)), value.dtype)
    if mask is None:
        return output
    sees_something = tf.transpose(tf.reduce_any(mask.visible, axis=-1), (0, 2, 1))  # size 1 where the mask broadcasts
    return tf.where(sees_something[..., None], output, tf.zeros((), output.dtype))


def _scores(query, key, mask, bias, scale):
    """The scores (B, H, T, S): the lowest finite number where a key is hidden."""
    B, T, H, d = sizes_of(query)
    S, K = sizes_of(key)[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    query, key = at_least_float32(query), at_least_float32(key)  # a product of float16 may not fit into float16
    query = tf.reshape(query * scale, (B, T, K, H // K, d))  # heads of a group share a key
    scores = tf.einsum("btkgd,bskd->bkgts", query, key)  # (B, K, G, T, S)
    scores = tf.reshape(scores, (B, H, T, S))
    if bias is not None:
        scores += tf.cast(bias, scores.dtype)
    if mask is None:
        return scores
    lowest = scores.dtype.min  # not -inf: softmax over a row of -inf is NaN
    return scores + tf.where(mask.visible, tf.zeros((), scores.dtype), lowest)


def fused_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    visible: tf.Tensor | Mask | None = None,
    bias: tf.Tensor | None = None,
    scale: float | None = None,
) -> tf.Tensor:
    """`scaled_dot_product_attention` as one operation of the framework, with the same arguments, result and errors.

    PyTorch has a kernel that processes the keys in tiles and keeps a running maximum and sum in float32, so that it
    never stores the weights (B, H, T, S) (Dao et al. 2022). In TensorFlow, XLA compiles the formula once for each
    combination of shapes, which saves memory passes between its steps but still stores the weights.
    """
    query, key, value, mask = check_inputs(query, key, value, visible, bias)
    return _by_xla(
        query, key, value, mask and mask.visible, bias, 1 / math.sqrt(query.shape[3]) if scale is None else scale
    )


_by_xla = tf.function(scaled_dot_product_attention, jit_compile=True, autograph=False)


class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention: project to heads, attend in each, and project their concatenation back to D.

    `n_kv_heads` = `n_heads` is multi-head, 1 is multi-query, a divisor in between is grouped-query attention.
    `query`, `key`, `value`: D to heads; `output`: heads to D. attention: `scaled_dot_product_attention`, or
    `fused_attention`, which compiles once for each shape. Source: Vaswani et al. 2017, section 3.2.2.

    Raises ValueError if `n_kv_heads` does not divide `n_heads`, or where `d_head` is not given and `n_heads` does
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
        attention: Callable[..., tf.Tensor] = scaled_dot_product_attention,
    ):
        super().__init__(autocast=False)  # the angles and the bias are float32 in any model
        n_kv_heads, d_head = check_head_sizes(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = d_model, n_heads, n_kv_heads, d_head
        self.scale, self.attention = scale, attention
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
        heads = self.attention(self.queries(x, rotation), key, value, visible, bias, self.scale)
        B, T, H, d = sizes_of(heads)
        return self.output(tf.reshape(heads, (B, T, H * d)))

    @property
    def cached(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of each tensor that a cache keeps for a position, in the order of `keys_values`."""
        return {"key": (self.n_kv_heads, self.d_head), "value": (self.n_kv_heads, self.d_head)}

    def rotated(self, heads, rotation):
        """Queries or keys (B, T, H, d) rotated by the angles of their positions; unchanged if `rotation` is None."""
        return heads if rotation is None else rotate(heads, *rotation)

    def keys_values(self, x, rotation=None):
        """The keys and the values of `x` (B, S, D): two tensors (B, S, K, d). This is what a KV cache keeps."""
        check_hidden("memory", shape_of(x), self.d_model)
        key = self.split_keys(x)  # (B, S, K, d)
        value = self._split(self.value(x), self.n_kv_heads)
        return self.rotated(key, rotation), value

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) of a call, for inspection; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        return attention_weights(self.queries(x, rotation), key, visible, bias, self.scale)

    def queries(self, x, rotation=None):
        """The queries of `x` (B, T, D), (B, T, H, d)."""
        check_hidden("x", shape_of(x), self.d_model)
        return self.rotated(self.split_queries(x), rotation)

    def split_queries(self, x):
        """The queries (B, T, H, d) before their rotation."""
        return self._split(self.query(x), self.n_heads)

    def split_keys(self, x):
        """The keys (B, S, K, d) before their rotation."""
        return self._split(self.key(x), self.n_kv_heads)

    def _split(self, x, n_heads):
        B, T, _ = sizes_of(x)
        return tf.reshape(x, (B, T, n_heads, self.d_head))


def check_inputs(query, key, value, visible, bias):
    """Check the inputs of attention: three tensors and the mask by head or None. Raises TypeError or ValueError."""
    query, key, value = (tf.convert_to_tensor(tensor) for tensor in (query, key, value))
    mask = Mask.of(visible)
    shapes = [None if tensor is None else shape_of(tensor) for tensor in (mask and mask.visible, bias)]
    check_attention(shape_of(query), shape_of(key), shape_of(value), *shapes)
    return query, key, value, mask and mask.by_head()
