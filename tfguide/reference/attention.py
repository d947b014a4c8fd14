"""Scaled dot-product attention over grouped heads, its masks, and multi-head attention."""

from __future__ import annotations

import math

import numpy as np

from tfguide.checks.shapes import (
    check_attention,
    check_boolean,
    check_head_sizes,
    check_hidden,
    check_mask_sizes,
    check_valid,
)
from tfguide.reference.linear import Linear
from tfguide.reference.positions import rotate


def causal_mask(n_queries: int, n_keys: int | None = None, window: int | None = None) -> np.ndarray:
    """The causal mask: no query sees a later key; boolean (T, S), True = may look.

    The queries are the last `n_queries` of the `n_keys` positions. With a `window`, a query sees itself and the
    `window - 1` positions before it. Raises ValueError for sizes below 1 or more queries than keys.

    >>> causal_mask(3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    n_keys = n_queries if n_keys is None else n_keys
    n_queries, n_keys, window = check_mask_sizes(n_queries, n_keys, window)
    query = np.arange(n_keys - n_queries, n_keys)[:, None]  # (T, 1)
    key = np.arange(n_keys)[None, :]  # (1, S)
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return visible


def padding_mask(valid: np.ndarray) -> np.ndarray:
    """The mask that hides padded keys from every query: `valid` (B, S), True at real tokens, as (B, 1, S)."""
    valid = np.asarray(valid)
    check_valid("valid", valid.shape, valid.dtype == bool, valid.dtype, valid.shape)
    return valid[:, None, :]


def attention_weights(
    query: np.ndarray,
    key: np.ndarray,
    visible: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """The weights `softmax(scale * Q K^T + bias)` over the visible keys, (B, H, T, S).

    query: (B, T, H, d); key: (B, S, K, d), where K divides H: query head h uses key head `h // (H / K)`.
    visible: boolean (T, S), (B, T, S) or (B, H, T, S); True = may look.
    bias: (H, T, S) or (B, H, T, S), added to the scores.
    scale: the factor of the scores (default: `1 / sqrt(d)`).

    Each row sums to 1. The weights of a query that may look at nothing are all 0, never NaN.
    Raises ValueError for shapes that do not fit, TypeError where `visible` is not boolean.
    Source: Vaswani et al. 2017, equation 1; grouped heads: Ainslie et al. 2023.
    """
    query, key, visible, bias = as_attention_inputs(query, key, key, visible, bias)
    B, T, H, d = query.shape
    S, K = key.shape[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale

    query = query.reshape(B, T, K, H // K, d)
    scores = scale * np.einsum("btkgd,bskd->bkgts", query, key)  # (B, K, G, T, S)
    scores = scores.reshape(B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if visible is None:
        return _softmax(scores)
    weights = _softmax(np.where(visible, scores, np.finfo(scores.dtype).min))
    return np.where(visible, weights, 0.0)  # a row that sees nothing has weights on hidden keys so far


def scaled_dot_product_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    visible: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """Attention: for each query the mean of the values, weighted by `attention_weights`; (B, T, H, d).

    value: (B, S, K, d_v); the other arguments and the errors are those of `attention_weights`.
    The output of a query that may look at nothing is 0.
    """
    as_attention_inputs(query, key, value, visible, bias)
    weights = attention_weights(query, key, visible, bias, scale)  # (B, H, T, S)
    B, H, T, S = weights.shape
    value = _float(value)
    K = value.shape[2]
    weights = weights.reshape(B, K, H // K, T, S)
    output = np.einsum("bkgts,bskd->btkgd", weights, value)  # (B, T, K, G, d)
    return output.reshape(B, T, H, -1)


class MultiHeadAttention:
    """Multi-head attention: project to heads, attend in each, and project their concatenation back to D.

    `n_kv_heads` = `n_heads` is multi-head, 1 is multi-query, a divisor between them is grouped-query attention.
    `query`, `key`, `value`: D to heads; `output`: heads to D. Source: Vaswani et al. 2017, section 3.2.2.

    Raises ValueError where `n_kv_heads` does not divide `n_heads`, or where `d_head` is not given and `n_heads` does
    not divide `d_model`; TypeError for sizes that are not integers.
    """

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
        n_kv_heads, d_head = check_head_sizes(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = d_model, n_heads, n_kv_heads, d_head
        self.scale = scale
        self.query = Linear(d_model, n_heads * d_head, qkv_bias)
        self.key = Linear(d_model, n_kv_heads * d_head, qkv_bias)
        self.value = Linear(d_model, n_kv_heads * d_head, qkv_bias)
        self.output = Linear(n_heads * d_head, d_model, output_bias)

    def __call__(self, x, memory=None, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to itself, or to `memory` (B, S, D) where given; (B, T, D).

        `visible` and `bias` as in `attention_weights`; `rotation`: the angles of `rotary_angles`, for self-attention.
        """
        key, value = self.keys_values(x if memory is None else memory, rotation)
        return self.attend(x, key, value, visible, bias, rotation)

    def attend(self, x, key, value, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to keys and values that are already projected, (B, S, K, d); (B, T, D)."""
        heads = scaled_dot_product_attention(self.queries(x, rotation), key, value, visible, bias, self.scale)
        B, T, H, d = heads.shape
        return self.output(heads.reshape(B, T, H * d))

    def keys_values(self, x, rotation=None):
        """The keys and the values of `x` (B, S, D), which a KV cache keeps: two arrays (B, S, K, d)."""
        x = _float(x)
        check_hidden("memory", x.shape, self.d_model)
        key = self.split_keys(x)  # (B, S, K, d)
        value = self._split(self.value(x), self.n_kv_heads)
        return (key if rotation is None else rotate(key, *rotation)), value

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) that the output is computed with; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        return attention_weights(self.queries(x, rotation), key, visible, bias, self.scale)

    def queries(self, x, rotation=None):
        """The queries of `x` (B, T, D), (B, T, H, d)."""
        x = _float(x)
        check_hidden("x", x.shape, self.d_model)
        query = self.split_queries(x)  # (B, T, H, d)
        return query if rotation is None else rotate(query, *rotation)

    def split_queries(self, x):
        """The queries (B, T, H, d) before their rotation."""
        return self._split(self.query(x), self.n_heads)

    def split_keys(self, x):
        """The keys (B, S, K, d) before their rotation."""
        return self._split(self.key(x), self.n_kv_heads)

    def _split(self, x, n_heads):
        return x.reshape(*x.shape[:2], n_heads, self.d_head)


def _softmax(scores):
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))  # the largest exponent is 0: nothing overflows
    return scores / scores.sum(axis=-1, keepdims=True)


def as_attention_inputs(query, key, value, visible, bias):
    """Queries, keys, mask and bias as arrays, checked against each other; a mask (B, T, S) becomes (B, 1, T, S)."""
    query, key = _float(query), _float(key)
    if visible is not None:
        visible = np.asarray(visible)
        check_boolean("visible", visible.dtype == bool, visible.dtype)
    bias = None if bias is None else _float(bias)
    shapes = [None if array is None else array.shape for array in (visible, bias)]
    check_attention(query.shape, key.shape, np.shape(value), *shapes)
    if visible is not None and visible.ndim == 3:
        visible = visible[:, None]  # (B, 1, T, S): the same for every head
    return query, key, visible, bias


def _float(array):
    return np.asarray(array, np.float64)
