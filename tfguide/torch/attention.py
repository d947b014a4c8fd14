"""Scaled dot-product attention over grouped heads, and multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfguide.checks.shapes import (
    check_attention,
    check_head_sizes,
    check_hidden,
)
from tfguide.torch.masks import Mask
from tfguide.torch.positions import rotate
from tfguide.torch.tensors import at_least_float32


def attention_weights(
    query: Tensor,
    key: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The weights `softmax(scale * Q K^T + bias)` over the visible keys, (B, H, T, S), float32 at least.

    query: (B, T, H, d); key: (B, S, K, d), K dividing H: query head h uses key head `h // (H / K)`.
    visible: boolean (T, S), (B, T, S) or (B, H, T, S); True = may look.
    bias: (H, T, S) or (B, H, T, S), added to the scores.
    scale: default `1 / sqrt(d)`.

    Each row sums to 1. The weights of a query that may look at nothing are all 0, never NaN.
    Raises ValueError for shapes that do not fit, TypeError if `visible` is not boolean.
    Source: Vaswani et al. 2017, equation 1; grouped heads: Ainslie et al. 2023.
    """
    mask = check_inputs(query, key, key, visible, bias)
    weights = torch.softmax(_scores(query, key, mask, bias, scale), dim=-1)
    if mask is None:
        return weights
    return weights.masked_fill(~mask.visible, 0.0)  # only a query that sees nothing has weight on a hidden key


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention: for each query the mean of the values, weighted by `attention_weights`; (B, T, H, d).

    value: (B, S, K, d_v); the other arguments and the errors are those of `attention_weights`.
    The output of a query that may look at nothing is 0.
    """
    mask = check_inputs(query, key, value, visible, bias)
    weights = torch.softmax(_scores(query, key, mask, bias, scale), dim=-1)  # (B, H, T, S)
    weights = weights.unflatten(1, (value.shape[2], -1))  # (B, K, G, T, S)
    output = torch.einsum("bkgts,bskd->btkgd", weights, at_least_float32(value))
    output = output.flatten(2, 3).to(value.dtype)  # (B, T, H, d)
    if mask is None:
        return output
    sees_something = mask.visible.any(dim=-1).transpose(-1, -2)  # (B, T, H), size 1 where the mask broadcasts
    return output.masked_fill(~sees_something[..., None], 0.0)


def _scores(query, key, mask, bias, scale):
    """The scores (B, H, T, S): the lowest finite number where a key is hidden."""
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    query, key = at_least_float32(query), at_least_float32(key)  # a product of float16 may not fit into float16
    query = (query * scale).unflatten(2, (key.shape[2], -1))  # (B, T, K, G, d): heads of a group share a key
    scores = torch.einsum("btkgd,bskd->bkgts", query, key).flatten(1, 2)  # (B, H, T, S)
    if bias is not None:
        scores += bias
    if mask is None:
        return scores
    lowest = torch.finfo(scores.dtype).min  # not -inf: softmax over a row of -inf is NaN
    hidden = torch.zeros_like(mask.visible, dtype=scores.dtype).masked_fill(~mask.visible, lowest)
    scores += hidden  # in place and by addition: a masked_fill over all scores takes three times as long
    return scores


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """`scaled_dot_product_attention` as one operation of the framework, with the same arguments, result and errors.

    PyTorch has a kernel that processes the keys in tiles and keeps a running maximum and sum in float32, so that it
    never stores the weights (B, H, T, S) (Dao et al. 2022). In TensorFlow, XLA compiles the formula once for each
    combination of shapes, which saves memory passes between its steps but still stores the weights.
    """
    mask = check_inputs(query, key, value, visible, bias)
    added, is_causal = None, bias is None and mask is not None and mask.kind == "causal"
    if mask is not None and not is_causal:
        added = torch.zeros_like(mask.visible, dtype=query.dtype).masked_fill(~mask.visible, -math.inf)
    if bias is not None:
        added = bias.to(query.dtype) if added is None else added + bias.to(query.dtype)
    heads = (x.transpose(1, 2) for x in (query, key, value))  # (B, H, T, d): the kernel takes the heads first
    output = F.scaled_dot_product_attention(*heads, added, is_causal=is_causal, scale=scale, enable_gqa=True)
    return output.transpose(1, 2)  # (B, T, H, d)


class MultiHeadAttention(nn.Module):
    """Multi-head attention: project to heads, attend in each, and project their concatenation back to D.

    `n_kv_heads` = `n_heads` is multi-head, 1 is multi-query, a divisor in between is grouped-query attention.
    `query`, `key`, `value`: D to heads; `output`: heads to D. attention: `fused_attention`, or
    `scaled_dot_product_attention` to see each step. Source: Vaswani et al. 2017, section 3.2.2.

    Raises ValueError if `n_kv_heads` does not divide `n_heads`, or where `d_head` is not given and `n_heads` does
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
        attention: Callable[..., Tensor] = fused_attention,
    ):
        super().__init__()
        n_kv_heads, d_head = check_head_sizes(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = d_model, n_heads, n_kv_heads, d_head
        self.scale, self.attention = scale, attention
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
        heads = self.attention(self.queries(x, rotation), key, value, visible, bias, self.scale)
        return self.output(heads.flatten(2))  # (B, T, H, d) -> (B, T, H * d) -> (B, T, D)

    @property
    def cached(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of each tensor that a cache keeps for a position, in the order of `keys_values`."""
        return {"key": (self.n_kv_heads, self.d_head), "value": (self.n_kv_heads, self.d_head)}

    def rotated(self, heads, rotation):
        """Queries or keys (B, T, H, d) rotated by the angles of their positions; unchanged if `rotation` is None."""
        return heads if rotation is None else rotate(heads, *rotation)

    def keys_values(self, x, rotation=None):
        """The keys and the values of `x` (B, S, D): two tensors (B, S, K, d). This is what a KV cache keeps."""
        check_hidden("memory", tuple(x.shape), self.d_model)
        key = self.split_keys(x)  # (B, S, K, d)
        value = self._split(self.value(x), self.n_kv_heads)
        return self.rotated(key, rotation), value

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) of a call, for inspection; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        return attention_weights(self.queries(x, rotation), key, visible, bias, self.scale)

    def queries(self, x, rotation=None):
        """The queries of `x` (B, T, D), (B, T, H, d)."""
        check_hidden("x", tuple(x.shape), self.d_model)
        return self.rotated(self.split_queries(x), rotation)

    def split_queries(self, x):
        """The queries (B, T, H, d) before their rotation."""
        return self._split(self.query(x), self.n_heads)

    def split_keys(self, x):
        """The keys (B, S, K, d) before their rotation."""
        return self._split(self.key(x), self.n_kv_heads)

    def _split(self, x, n_heads):
        return x.unflatten(2, (n_heads, self.d_head))


def check_inputs(query, key, value, visible, bias):
    """Check the inputs of attention and return the mask by head, or None. Raises TypeError or ValueError."""
    mask = Mask.of(visible)
    shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (mask and mask.visible, bias)]
    check_attention(tuple(query.shape), tuple(key.shape), tuple(value.shape), *shapes)
    return mask and mask.by_head()
