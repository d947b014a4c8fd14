"""What newer models add to attention: norms of queries and keys, capped scores, and sinks."""

from __future__ import annotations

import math

import numpy as np

from tfguide.reference.attention import MultiHeadAttention, as_attention_inputs
from tfguide.reference.norms import RMSNorm


def softcap(x: np.ndarray, cap: float | None) -> np.ndarray:
    """`cap * tanh(x / cap)`: x where it is small, never beyond the cap; x itself if the cap is None.

    Source: Gemma Team 2024, "Gemma 2", section 2.
    """
    return x if cap is None else cap * np.tanh(x / cap)


def modified_attention_weights(
    query: np.ndarray,
    key: np.ndarray,
    visible: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sinks: np.ndarray | None = None,
) -> np.ndarray:
    """`attention_weights` with scores that `softcap` limits, and with sinks: (B, H, T, S).

    sinks: (H,), a score of each head that joins the softmax and has no value, so that the weights of a row sum to less
    than 1. The cap acts on `scale * Q K^T`, before the bias. The other arguments and the errors are those of
    `attention_weights`. Source: sinks: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card".
    """
    query, key, visible, bias = as_attention_inputs(query, key, key, visible, bias)
    B, T, H, d = query.shape
    S, K = key.shape[1:3]
    scale = 1 / math.sqrt(d) if scale is None else scale
    scores = scale * np.einsum("btkgd,bskd->bkgts", query.reshape(B, T, K, H // K, d), key).reshape(B, H, T, S)
    scores = softcap(scores, cap)
    if bias is not None:
        scores = scores + bias
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    sinks = np.full(H, -np.inf) if sinks is None else np.asarray(sinks, np.float64)
    sinks = sinks[None, :, None, None]  # (1, H, 1, 1)
    largest = np.maximum(scores.max(axis=-1, keepdims=True), sinks)
    largest = np.where(largest == -np.inf, 0.0, largest)  # a row that sees nothing
    weights = np.exp(scores - largest)
    total = weights.sum(axis=-1, keepdims=True) + np.exp(sinks - largest)
    return weights / np.where(total == 0, 1.0, total)


def modified_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    visible: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sinks: np.ndarray | None = None,
) -> np.ndarray:
    """The mean of the values with `modified_attention_weights`, (B, T, H, d_v); the arguments are those of both."""
    as_attention_inputs(query, key, value, visible, bias)
    weights = modified_attention_weights(query, key, visible, bias, scale, cap, sinks)  # (B, H, T, S)
    B, H, T, S = weights.shape
    value = np.asarray(value, np.float64)
    K = value.shape[2]
    output = np.einsum("bkgts,bskd->btkgd", weights.reshape(B, K, H // K, T, S), value)
    return output.reshape(B, T, H, -1)


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
        self.sinks = np.zeros(n_heads) if sinks else None
        self.query_norm = None if norm_eps is None else RMSNorm(self.d_head, norm_eps)
        self.key_norm = None if norm_eps is None else RMSNorm(self.d_head, norm_eps)

    def attend(self, x, key, value, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to keys and values that are already projected, (B, S, K, d); (B, T, D)."""
        if self.cap is None and self.sinks is None:
            return super().attend(x, key, value, visible, bias, rotation)
        query = self.queries(x, rotation)
        heads = modified_attention(query, key, value, visible, bias, self.scale, self.cap, self.sinks)
        return self.output(heads.reshape(*heads.shape[:2], -1))

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) that the output is computed with; arguments as in the call."""
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
