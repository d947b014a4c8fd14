"""Scaled dot-product attention over grouped heads, its masks, and multi-head attention."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfguide.checks.shapes import (
    check_attention,
    check_boolean,
    check_head_sizes,
    check_hidden,
    check_mask_sizes,
    check_valid,
)
from tfguide.torch.positions import rotate


def causal_mask(n_queries: int, n_keys: int | None = None, window: int | None = None) -> Tensor:
    """Which keys each query may see when it may not look ahead: boolean (T, S), True = may look.

    The queries are the last `n_queries` of the `n_keys` positions. With a `window`, a query sees itself and the
    `window - 1` positions before it. Raises ValueError for sizes below 1 or more queries than keys.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    n_keys = n_queries if n_keys is None else n_keys
    n_queries, n_keys, window = check_mask_sizes(n_queries, n_keys, window)
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]  # (T, 1)
    key = torch.arange(n_keys)[None, :]  # (1, S)
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return visible


def padding_mask(valid: Tensor) -> Tensor:
    """The visibility of padded keys: `valid` (B, S), True at real tokens, becomes (B, 1, S) for every query."""
    valid = as_tensor(valid)
    check_valid("valid", tuple(valid.shape), valid.dtype == torch.bool, valid.dtype, tuple(valid.shape))
    return valid[:, None, :]


def attention_weights(
    query: Tensor,
    key: Tensor,
    visible: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The weights `softmax(scale * Q K^T + bias)` over the visible keys, (B, H, T, S), float32 at least.

    query: (B, T, H, d); key: (B, S, K, d), K dividing H: query head h uses key head `h // (H / K)`.
    visible: boolean (T, S), (B, T, S) or (B, H, T, S); True = may look.
    bias: (H, T, S) or (B, H, T, S), added to the scores.
    scale: `1 / sqrt(d)` unless told.

    Each row sums to 1. The weights of a query that may look at nothing are all 0, never NaN.
    Raises ValueError for shapes that do not fit, TypeError where `visible` is not boolean.
    Source: Vaswani et al. 2017, equation 1; grouped heads: Ainslie et al. 2023.
    """
    visible = _checked(query, key, key, visible, bias)
    weights = torch.softmax(_scores(query, key, visible, bias, scale), dim=-1)
    if visible is None:
        return weights
    return weights.masked_fill(~visible, 0.0)  # only a query that sees nothing has weight on a hidden key


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention: for each query the mean of the values, weighted by `attention_weights`; (B, T, H, d).

    value: (B, S, K, d_v); the other arguments and the errors are those of `attention_weights`.
    The output of a query that may look at nothing is 0.
    """
    visible = _checked(query, key, value, visible, bias)
    weights = torch.softmax(_scores(query, key, visible, bias, scale), dim=-1)  # (B, H, T, S)
    weights = weights.unflatten(1, (value.shape[2], -1))  # (B, K, G, T, S)
    output = torch.einsum("bkgts,bskd->btkgd", weights, at_least_float32(value))
    output = output.flatten(2, 3).to(value.dtype)  # (B, T, H, d)
    if visible is None:
        return output
    sees_something = visible.any(dim=-1).transpose(-1, -2)  # (B, T, H), sizes of 1 where all are alike
    return output.masked_fill(~sees_something[..., None], 0.0)


def _scores(query, key, visible, bias, scale):
    """The scores (B, H, T, S), the lowest number where a key is hidden."""
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    query, key = at_least_float32(query), at_least_float32(key)  # a product of float16 may not fit into float16
    query = (query * scale).unflatten(2, (key.shape[2], -1))  # (B, T, K, G, d): heads of a group share a key
    scores = torch.einsum("btkgd,bskd->bkgts", query, key).flatten(1, 2)  # (B, H, T, S)
    if bias is not None:
        scores += bias
    if visible is None:
        return scores
    lowest = torch.finfo(scores.dtype).min  # not -inf, which makes NaN of a row with nothing to see
    hidden = torch.zeros_like(visible, dtype=scores.dtype).masked_fill(~visible, lowest)
    scores += hidden  # in place and by addition: a masked_fill over all scores takes three times as long
    return scores


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """`scaled_dot_product_attention` as one program of the framework; its arguments, its result, its errors.

    PyTorch: its own kernel, which goes through the keys in tiles and keeps a running maximum and sum in float32, so
    that the weights (B, H, T, S) are never in memory (Dao et al. 2022). TensorFlow: the formula compiled by XLA, once
    for each combination of shapes, which saves the passes between its steps but not the weights.
    """
    visible = _checked(query, key, value, visible, bias)
    mask, is_causal = None, bias is None and getattr(visible, "is_causal", False)
    if visible is not None and not is_causal:
        mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, -math.inf)
    if bias is not None:
        mask = bias.to(query.dtype) if mask is None else mask + bias.to(query.dtype)
    heads = (x.transpose(1, 2) for x in (query, key, value))  # (B, H, T, d): the kernel wants the heads first
    output = F.scaled_dot_product_attention(*heads, mask, is_causal=is_causal, scale=scale, enable_gqa=True)
    return output.transpose(1, 2)  # (B, T, H, d)


class MultiHeadAttention(nn.Module):
    """Multi-head attention: project to heads, attend in each, and project their concatenation back to D.

    `n_kv_heads` = `n_heads` is multi-head, 1 is multi-query, a divisor between is grouped-query attention.
    `query`, `key`, `value`: D to heads; `output`: heads to D. Source: Vaswani et al. 2017, section 3.2.2.

    Raises ValueError where `n_kv_heads` does not divide `n_heads`, or where `d_head` is not given and `n_heads` does
    not divide `d_model`; TypeError for sizes that are not integers.
    """

    rotate = staticmethod(rotate)  # a fast decoder's copy of a model has a kernel here

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
        super().__init__()
        n_kv_heads, d_head = check_head_sizes(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = d_model, n_heads, n_kv_heads, d_head
        self.scale = scale
        self.query = nn.Linear(d_model, n_heads * d_head, bias=qkv_bias)
        self.key = nn.Linear(d_model, n_kv_heads * d_head, bias=qkv_bias)
        self.value = nn.Linear(d_model, n_kv_heads * d_head, bias=qkv_bias)
        self.output = nn.Linear(n_heads * d_head, d_model, bias=output_bias)

    def forward(self, x, memory=None, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to itself, or to `memory` (B, S, D) where given; (B, T, D).

        `visible` and `bias` as in `attention_weights`; `rotation`: the angles of `rotary_angles`, for self-attention.
        """
        key, value = self.keys_values(x if memory is None else memory, rotation)
        return self.attend(x, key, value, visible, bias, rotation)

    def attend(self, x, key, value, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to keys and values that are already projected, (B, S, K, d); (B, T, D)."""
        # PyTorch's kernel serves inference; training keeps the formula, whose every step has a gradient to look at.
        attention = scaled_dot_product_attention if torch.is_grad_enabled() else fused_attention
        heads = attention(self._queries(x, rotation), key, value, visible, bias, self.scale)
        return self.output(heads.flatten(2))  # (B, T, H, d) -> (B, T, H * d) -> (B, T, D)

    def keys_values(self, x, rotation=None):
        """The keys and the values of `x` (B, S, D): two tensors (B, S, K, d). This is what a KV cache keeps."""
        check_hidden("memory", tuple(x.shape), self.d_model)
        key = self._split(self.key(x), self.n_kv_heads)  # (B, S, K, d)
        value = self._split(self.value(x), self.n_kv_heads)
        return (key if rotation is None else self.rotate(key, *rotation)), value

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) behind the output, to look at; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        return attention_weights(self._queries(x, rotation), key, visible, bias, self.scale)

    def _queries(self, x, rotation):
        check_hidden("x", tuple(x.shape), self.d_model)
        query = self._split(self.query(x), self.n_heads)  # (B, T, H, d)
        return query if rotation is None else self.rotate(query, *rotation)

    def _split(self, x, n_heads):
        return x.unflatten(2, (n_heads, self.d_head))


def as_tensor(values, device=None) -> Tensor:
    """A tensor as it is, anything else as NumPy reads it; on a device where one is named. Integers become int64.

    The array is copied: PyTorch takes none with negative strides or another byte order, and warns of one that cannot be
    written; it does not compute with unsigned integers.
    """
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype == np.uint64:
            array = np.minimum(array, np.uint64(2**63 - 1))
        dtype = np.int64 if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")
        values = torch.from_numpy(np.array(array, dtype, order="C"))
    elif values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        values = values.long()
    return values.to(device)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is wider: half precision has too few digits for a sum of exponentials."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _checked(query, key, value, visible, bias):
    """Check what attention is given; the mask as (B or 1, H or 1, T, S). Raises TypeError or ValueError."""
    if visible is not None:
        check_boolean("visible", visible.dtype == torch.bool, visible.dtype)
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (visible, bias)]
    check_attention(tuple(query.shape), tuple(key.shape), tuple(value.shape), *shapes)
    if visible is None or visible.ndim == 4:
        return visible
    return visible[:, None] if visible.ndim == 3 else visible[None, None]  # (B or 1, 1, T, S): every head alike
