"""What newer models add to attention: norms of queries and keys, capped scores, and sinks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tfguide.torch.attention import MultiHeadAttention, check_inputs
from tfguide.torch.masks import Mask
from tfguide.torch.norms import RMSNorm
from tfguide.torch.tensors import at_least_float32


def softcap(x: Tensor, cap: float | None) -> Tensor:
    """`cap * tanh(x / cap)`: x where it is small, never beyond the cap; x itself if the cap is None.

    Source: Gemma Team 2024, "Gemma 2", section 2.
    """
    return x if cap is None else cap * torch.tanh(x / cap)


def modified_attention_weights(
    query: Tensor,
    key: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`attention_weights` with scores that `softcap` limits, and with sinks: (B, H, T, S).

    sinks: (H,), a score of each head that joins the softmax and has no value, so that the weights of a row sum to less
    than 1. The cap acts on `scale * Q K^T`, before the bias. The other arguments and the errors are those of
    `attention_weights`. Source: sinks: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card".
    """
    mask = check_inputs(query, key, key, visible, bias)
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    query, key = at_least_float32(query), at_least_float32(key)
    scores = torch.einsum("btkgd,bskd->bkgts", (query * scale).unflatten(2, (key.shape[2], -1)), key).flatten(1, 2)
    scores = softcap(scores, cap)  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask.visible, torch.finfo(scores.dtype).min)
    if sinks is not None:
        column = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., : key.shape[1]]
    return weights if mask is None else weights.masked_fill(~mask.visible, 0.0)


def modified_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The mean of the values with `modified_attention_weights`, (B, T, H, d_v); the arguments are those of both."""
    check_inputs(query, key, value, visible, bias)
    weights = modified_attention_weights(query, key, visible, bias, scale, cap, sinks)  # (B, H, T, S)
    weights = weights.unflatten(1, (value.shape[2], -1))  # (B, K, G, T, S)
    output = torch.einsum("bkgts,bskd->btkgd", weights, at_least_float32(value))
    return output.flatten(2, 3).to(value.dtype)


class ModifiedAttention(MultiHeadAttention):
    """`MultiHeadAttention` with `query_norm` and `key_norm` over the features of a head, a cap of scores, and sinks.

    norm_eps: the epsilon of the norms, None: no norms (Henry et al. 2020; Qwen3). cap, sinks: as in
    `modified_attention_weights`; `sinks`, (H,), is a weight of the layer. Raises as `MultiHeadAttention`.
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
        norm_eps: float | None = None,
        cap: float | None = None,
        sinks: bool = False,
    ):
        super().__init__(d_model, n_heads, n_kv_heads, d_head, qkv_bias, output_bias, scale)
        self.cap = cap
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None
        self.query_norm = None if norm_eps is None else RMSNorm(self.d_head, norm_eps)
        self.key_norm = None if norm_eps is None else RMSNorm(self.d_head, norm_eps)

    def attend(self, x, key, value, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to keys and values that are already projected, (B, S, K, d); (B, T, D)."""
        if self.cap is None and self.sinks is None:
            return super().attend(x, key, value, visible, bias, rotation)
        query = self.queries(x, rotation)
        heads = modified_attention(query, key, value, visible, bias, self.scale, self.cap, self.sinks)
        return self.output(heads.flatten(2))

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) of a call, for inspection; arguments as in the call."""
        key, _ = self.keys_values(x if memory is None else memory, rotation)
        query = self.queries(x, rotation)
        return modified_attention_weights(query, key, visible, bias, self.scale, self.cap, self.sinks)

    def split_queries(self, x):
        """The queries (B, T, H, d) before their rotation, normalised."""
        query = super().split_queries(x)
        return query if self.query_norm is None else self.query_norm(query)

    def split_keys(self, x):
        """The keys (B, S, K, d) before their rotation, normalised."""
        key = super().split_keys(x)
        return key if self.key_norm is None else self.key_norm(key)
