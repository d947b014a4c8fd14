"""Multi-head latent attention: keys and values of all heads are made from one small vector, which is cached."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfguide.checks.shapes import check_hidden
from tfguide.checks.values import check_count
from tfguide.parts import LatentAttention
from tfguide.torch.attention import attention_weights, fused_attention, scaled_dot_product_attention
from tfguide.torch.masks import Mask
from tfguide.torch.norms import RMSNorm
from tfguide.torch.positions import rotate


def latent_keys_values(rope: Tensor, latent: Tensor, up: Tensor, d_nope: int) -> tuple[Tensor, Tensor]:
    """The keys (B, S, H, d) and values (B, S, H, d_v) of all heads, made from what a cache keeps of S positions.

    rope: (B, S, 1, d_rope), the rotated part of the keys, which all heads share; latent: (B, S, 1, R); up: (R, H,
    d_nope + d_v), which makes the rest of a key and a value from a latent. d = d_nope + d_rope.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", equations 9 to 19.
    """
    return _join(torch.einsum("bsor,rhm->bshm", latent, up), rope, d_nope)


def absorbed_attention(
    query: Tensor,
    rope: Tensor,
    latent: Tensor,
    up: Tensor,
    visible: Tensor | Mask | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention with the keys and values of `latent_keys_values`, which are not made; (B, T, H, d_v).

    `q^T (U c) = (U^T q)^T c`: the matrix is applied to the query, once for each position, and to the mean of the
    latents. All heads then share one key, latent and rotated part, and one value, the latent, as in multi-query
    attention. query: (B, T, H, d); the other arguments are those of `latent_keys_values` and `attention_weights`.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.2 and appendix C.
    """
    d_nope = query.shape[3] - rope.shape[3]
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    query_latent = torch.einsum("bthm,rhm->bthr", query[..., :d_nope], up[..., :d_nope])  # (B, T, H, R)
    query = torch.cat([query_latent, query[..., d_nope:]], dim=-1)  # (B, T, H, R + d_rope)
    key = torch.cat([latent, rope], dim=-1)  # (B, S, 1, R + d_rope)
    mean = scaled_dot_product_attention(query, key, latent, visible, bias, scale)  # (B, T, H, R)
    return torch.einsum("bthr,rhm->bthm", mean, up[..., d_nope:])


class MultiHeadLatentAttention(nn.Module):
    """Multi-head latent attention: what a position keeps for later queries is one latent and one rotated part of a key.

    `query`: D to heads, or `query_down`, `query_norm` and `query_up` by way of a vector of `query_rank` features;
    `key_value_down`: D to the latent and the rotated part; `key_value_norm`: of the latent; `key_value_up`: a latent to
    the keys and values of all heads; `output`: heads to D. A head's features are the `d_nope` first, then the `d_rope`
    that are rotated. Which form a call takes: `LatentAttention.absorbs`; attention: of the form that makes keys.
    With activations in 8 bits the forms round differently: what is absorbed is multiplied in the type of the queries.
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
        attention: Callable[..., Tensor] = fused_attention,
    ):
        super().__init__()
        self.d_model, self.n_heads = check_count("d_model", d_model), check_count("n_heads", n_heads)
        self.latent, self.scale, self.attention = latent, scale, attention
        heads = n_heads * latent.d_head
        if latent.query_rank is None:
            self.query = nn.Linear(d_model, heads, bias=False)
        else:
            self.query_down = nn.Linear(d_model, latent.query_rank, bias=qkv_bias)
            self.query_norm = RMSNorm(latent.query_rank, latent.norm_eps)
            self.query_up = nn.Linear(latent.query_rank, heads, bias=False)
        self.key_value_down = nn.Linear(d_model, latent.kv_rank + latent.d_rope, bias=qkv_bias)
        self.key_value_norm = RMSNorm(latent.kv_rank, latent.norm_eps)
        self.key_value_up = nn.Linear(latent.kv_rank, n_heads * (latent.d_nope + latent.d_value), bias=False)
        self.output = nn.Linear(n_heads * latent.d_value, d_model, bias=output_bias)

    def forward(self, x, memory=None, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to itself, or to `memory` (B, S, D) where given; (B, T, D).

        `visible` and `bias` as in `attention_weights`; `rotation`: the angles of `rotary_angles`, for self-attention.
        """
        rope, latent = self.keys_values(x if memory is None else memory, rotation)
        return self.attend(x, rope, latent, visible, bias, rotation)

    def attend(self, x, rope, latent, visible=None, bias=None, rotation=None):
        """Attend from `x` (B, T, D) to what `keys_values` returned of S positions; (B, T, D)."""
        query = self.queries(x, rotation)
        if self.latent.absorbs(query.shape[1], latent.shape[1]):
            heads = absorbed_attention(query, rope, latent, self.up_by_head(query.dtype), visible, bias, self.scale)
        else:
            key, value = self._made(rope, latent)
            heads = self.attention(query, key, value, visible, bias, self.scale)
        return self.output(heads.flatten(2))  # (B, T, H, d_v) -> (B, T, H * d_v) -> (B, T, D)

    @property
    def cached(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of each tensor that a cache keeps for a position, in the order of `keys_values`."""
        return self.latent.cached

    def keys_values(self, x, rotation=None):
        """What a cache keeps of `x` (B, S, D): the rotated part (B, S, 1, d_rope) and the latent (B, S, 1, R)."""
        check_hidden("memory", tuple(x.shape), self.d_model)
        down = self.key_value_down(x)[:, :, None]  # (B, S, 1, R + d_rope)
        latent, rope = down.split([self.latent.kv_rank, self.latent.d_rope], dim=-1)
        return (rope if rotation is None else rotate(rope, *rotation)), self.key_value_norm(latent)

    def attention_map(self, x, memory=None, visible=None, bias=None, rotation=None):
        """The attention weights (B, H, T, S) of a call, for inspection; arguments as in the call."""
        key, _ = self._made(*self.keys_values(x if memory is None else memory, rotation))
        return attention_weights(self.queries(x, rotation), key, visible, bias, self.scale)

    def queries(self, x, rotation=None):
        """The queries of `x` (B, T, D), (B, T, H, d)."""
        check_hidden("x", tuple(x.shape), self.d_model)
        if self.latent.query_rank is None:
            query = self.query(x)
        else:
            query = self.query_up(self.query_norm(self.query_down(x)))
        query = query.unflatten(2, (self.n_heads, self.latent.d_head))
        if rotation is None:
            return query
        nope, rope = query.split([self.latent.d_nope, self.latent.d_rope], dim=-1)
        return torch.cat([nope, rotate(rope, *rotation)], dim=-1)

    def up_by_head(self, dtype):
        """The matrix of `key_value_up` as (R, H, d_nope + d_v), in this type: packed weights are dequantised."""
        return self.key_value_up.weight.T.to(dtype).unflatten(1, (self.n_heads, -1))

    def _made(self, rope, latent):
        """`latent_keys_values` by way of the layer, which may be quantised."""
        made = self.key_value_up(latent[:, :, 0]).unflatten(2, (self.n_heads, -1))  # (B, S, H, d_nope + d_v)
        return _join(made, rope, self.latent.d_nope)


def _join(made, rope, d_nope):
    """Keys and values, from what is made of the latents (B, S, H, d_nope + d_v) and the part that all heads share."""
    shared = rope.expand(-1, -1, made.shape[2], -1)
    return torch.cat([made[..., :d_nope], shared], dim=-1), made[..., d_nope:]
