"""Multi-head latent attention: keys and values of all heads are made from one small vector, which is cached."""

from __future__ import annotations

import math

import numpy as np

from tfguide.checks.shapes import check_hidden
from tfguide.checks.values import check_count
from tfguide.parts import LatentAttention
from tfguide.reference.attention import attention_weights, scaled_dot_product_attention
from tfguide.reference.linear import Linear
from tfguide.reference.norms import RMSNorm
from tfguide.reference.positions import rotate


def latent_keys_values(
    rope: np.ndarray, latent: np.ndarray, up: np.ndarray, d_nope: int
) -> tuple[np.ndarray, np.ndarray]:
    """The keys (B, S, H, d) and values (B, S, H, d_v) of all heads, made from what a cache keeps of S positions.

    rope: (B, S, 1, d_rope), the rotated part of the keys, which all heads share; latent: (B, S, 1, R); up: (R, H,
    d_nope + d_v), which makes the rest of a key and a value from a latent. d = d_nope + d_rope.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", equations 9 to 19.
    """
    rope, latent, up = (np.asarray(array, np.float64) for array in (rope, latent, up))
    made = np.einsum("bsor,rhm->bshm", latent, up)  # (B, S, H, d_nope + d_v)
    shared = np.broadcast_to(rope, (*made.shape[:3], rope.shape[-1]))
    return np.concatenate([made[..., :d_nope], shared], axis=-1), made[..., d_nope:]


def absorbed_attention(
    query: np.ndarray,
    rope: np.ndarray,
    latent: np.ndarray,
    up: np.ndarray,
    visible: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """Attention with the keys and values of `latent_keys_values`, which are not made; (B, T, H, d_v).

    `q^T (U c) = (U^T q)^T c`: the matrix is applied to the query, once for each position, and to the mean of the
    latents. All heads then share one key, latent and rotated part, and one value, the latent, as in multi-query
    attention. query: (B, T, H, d); the other arguments are those of `latent_keys_values` and `attention_weights`.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.2 and appendix C.
    """
    query, rope, latent, up = (np.asarray(array, np.float64) for array in (query, rope, latent, up))
    d_nope = query.shape[3] - rope.shape[3]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    query_latent = np.einsum("bthm,rhm->bthr", query[..., :d_nope], up[..., :d_nope])  # (B, T, H, R)
    query = np.concatenate([query_latent, query[..., d_nope:]], axis=-1)  # (B, T, H, R + d_rope)
    key = np.concatenate([latent, rope], axis=-1)  # (B, S, 1, R + d_rope)
    mean = scaled_dot_product_attention(query, key, latent, visible, bias, scale)  # (B, T, H, R)
    return np.einsum("bthr,rhm->bthm", mean, up[..., d_nope:])


class MultiHeadLatentAttention:
    """Multi-head latent attention: what a position keeps for later queries is one latent and one rotated part of a key.

    `query`: D to heads, or `query_down`, `query_norm` and `query_up` by way of a vector of `query_rank` features;
    `key_value_down`: D to the latent and the rotated part; `key_value_norm`: of the latent; `key_value_up`: a latent to
    the keys and values of all heads; `output`: heads to D. A head's features are the `d_nope` first, then the `d_rope`
    that are rotated. Which form a call takes: `LatentAttention.absorbs`.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1. Raises TypeError or ValueError for sizes below 1.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        latent: LatentAttention,
        qkv_bias: bool = True,
        output_bias: bool = True,
        scale: float | None = None,
    ):
        self.d_model, self.n_heads = check_count("d_model", d_model), check_count("n_heads", n_heads)
        self.latent, self.scale = latent, scale
        heads = n_heads * latent.d_head
        if latent.query_rank is None:
            self.query = Linear(d_model, heads, False)
        else:
            self.query_down = Linear(d_model, latent.query_rank, qkv_bias)
            self.query_norm = RMSNorm(latent.query_rank, latent.norm_eps)
            self.query_up = Linear(latent.query_rank, heads, False)
        self.key_value_down = Linear(d_model, latent.kv_rank + latent.d_rope, qkv_bias)
        self.key_value_norm = RMSNorm(latent.kv_rank, latent.norm_eps)
        self.key_value_up = Linear(latent.kv_rank, n_heads * (latent.d_nope + latent.d_value), False)
        self.output = Linear(n_heads * latent.d_value, d_model, output_bias)

    def __call__(self, x, memory=None, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to itself, or to `memory` (B, S, D) where given; (B, T, D).

        `visible` and `bias` as in `attention_weights`; `rotation`: the angles of `rotary_angles`, for self-attention.
        """
        rope, latent = self.keys_values(x if memory is None else memory, rotation)
        return self.attend(x, rope, latent, visible, bias, rotation)

    def attend(self, x, rope, latent, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to what `keys_values` returned of S positions; (B, T, D)."""
        query, up = self.queries(x, rotation), self.up_by_head()
        if self.latent.absorbs(query.shape[1], latent.shape[1]):
            heads = absorbed_attention(query, rope, latent, up, visible, bias, self.scale)
        else:
            key, value = latent_keys_values(rope, latent, up, self.latent.d_nope)
            heads = scaled_dot_product_attention(query, key, value, visible, bias, self.scale)
        return self.output(heads.reshape(*heads.shape[:2], -1))  # (B, T, H, d_v) -> (B, T, D)

    def keys_values(self, x, rotation=None):
        """What a cache keeps of `x` (B, S, D): the rotated part (B, S, 1, d_rope) and the latent (B, S, 1, R)."""
        x = np.asarray(x, np.float64)
        check_hidden("memory", x.shape, self.d_model)
        latent, rope = np.split(self.key_value_down(x)[:, :, None], [self.latent.kv_rank], axis=-1)
        return (rope if rotation is None else rotate(rope, *rotation)), self.key_value_norm(latent)

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) that the output is computed with; arguments as in the call."""
        rope, latent = self.keys_values(x if memory is None else memory, rotation)
        key, _ = latent_keys_values(rope, latent, self.up_by_head(), self.latent.d_nope)
        return attention_weights(self.queries(x, rotation), key, visible, bias, self.scale)

    def queries(self, x, rotation=None):
        """The queries of `x` (B, T, D), (B, T, H, d)."""
        x = np.asarray(x, np.float64)
        check_hidden("x", x.shape, self.d_model)
        if self.latent.query_rank is None:
            query = self.query(x)
        else:
            query = self.query_up(self.query_norm(self.query_down(x)))
        query = query.reshape(*x.shape[:2], self.n_heads, self.latent.d_head)
        if rotation is None:
            return query
        nope, rope = np.split(query, [self.latent.d_nope], axis=-1)
        return np.concatenate([nope, rotate(rope, *rotation)], axis=-1)

    def up_by_head(self):
        """The matrix of `key_value_up` as (R, H, d_nope + d_v)."""
        return self.key_value_up.weight.reshape(self.latent.kv_rank, self.n_heads, -1)
