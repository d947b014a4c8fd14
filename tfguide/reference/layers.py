"""Norms, and the blocks that a model is a stack of."""

from __future__ import annotations

import numpy as np

from tfguide.checks.shapes import check_config, check_cross, check_features
from tfguide.config import ModelConfig
from tfguide.reference.attention import MultiHeadAttention
from tfguide.reference.feedforward import FeedForward


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, eps: float = 1e-5) -> np.ndarray:
    """Each position's features shifted to mean 0 and scaled to variance 1, then `* weight + bias`; shape as x.

    x: (..., D); weight, bias: (D,). Source: Ba et al. 2016.
    """
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x * weight if bias is None else x * weight + bias


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Each position's features scaled to root mean square 1, then `* weight`; shape as x.

    x: (..., D); weight: (D,). Source: Zhang & Sennrich 2019.
    """
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


class LayerNorm:
    """`layer_norm` with its weight and bias. Raises ValueError where the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True):
        self.eps = eps
        self.weight = np.ones(d_model)
        self.bias = np.zeros(d_model) if bias else None

    def __call__(self, x):
        """x: (..., D) to the same shape."""
        check_features("x", np.shape(x), len(self.weight))
        return layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm:
    """`rms_norm` with its weight. Raises ValueError where the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = np.ones(d_model)

    def __call__(self, x):
        """x: (..., D) to the same shape."""
        check_features("x", np.shape(x), len(self.weight))
        return rms_norm(x, self.weight, self.eps)


class EncoderBlock:
    """Self-attention and a feed-forward network, each with a residual connection and a norm.

    `config.norm_placement`: "pre" normalises the input of a sublayer, "post" the sum after it; with "parallel" both
    sublayers read the same normalised input (Chowdhery et al. 2022, section 2). (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig):
        check_config(config)
        self.placement = config.norm_placement
        self.self_attention_norm = make_norm(config)
        self.self_attention = make_attention(config)
        if self.placement != "parallel":
            self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, config.activation, config.ffn_bias)

    def __call__(self, x, visible=None, bias=None, rotation=None, record=None):
        """x: (B, T, D); visible, bias, rotation: as in `MultiHeadAttention`.

        record: called with the weights (B, H, T, S) of each attention in turn (default: no weights are computed).
        """

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            return self.self_attention(h, None, visible, bias, rotation)

        return self._sublayers(x, attend)

    def _sublayers(self, x, attend, cross_attend=None):
        """The sublayers, one after the other or in parallel, each with its norm and its residual connection."""
        if self.placement == "parallel":
            h = self.self_attention_norm(x)
            return x + attend(h) + self.feed_forward(h)
        x = self._residual(x, self.self_attention_norm, attend)
        if cross_attend is not None:
            x = self._residual(x, self.cross_attention_norm, cross_attend)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x, norm, sublayer):
        """x plus the output of the sublayer, with the norm before the sublayer or after the sum."""
        if self.placement == "pre":
            return x + sublayer(norm(x))
        return norm(x + sublayer(x))


class DecoderBlock(EncoderBlock):
    """An encoder block that may also attend to an encoder's output, between its two other sublayers.

    A block has cross-attention where `config.kind` is "encoder-decoder". A block is not causal by itself: the caller's
    `visible` says what a position may see, and a model passes a causal mask. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.crosses = config.kind == "encoder-decoder"
        if self.crosses:
            self.cross_attention_norm = make_norm(config)
            self.cross_attention = make_attention(config)

    def __call__(self, x, visible=None, bias=None, rotation=None, memory=None, memory_visible=None, record=None):
        """x, visible, bias, rotation, record: as in `EncoderBlock`.

        memory: (B, S, D), the encoder's output; memory_visible: which of its positions may be seen.
        """
        check_cross(self.crosses, memory is not None)

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            return self.self_attention(h, None, visible, bias, rotation)

        def cross_attend(h):
            if record is not None:
                record(self.cross_attention.attention_map(h, memory, memory_visible))
            return self.cross_attention(h, memory, memory_visible)

        return self._sublayers(x, attend, cross_attend if self.crosses else None)


def make_norm(config: ModelConfig):
    """The norm that a configuration asks for."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.norm_eps, config.norm_bias)


def make_attention(config: ModelConfig):
    """The attention that a configuration asks for."""
    return MultiHeadAttention(
        config.d_model,
        config.n_heads,
        config.n_kv_heads,
        config.d_head,
        config.qkv_bias,
        config.output_bias,
        config.attention_scale,
    )
