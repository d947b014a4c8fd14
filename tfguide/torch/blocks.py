"""The blocks that models are stacked from."""

from __future__ import annotations

from torch import nn

from tfguide.checks.shapes import check_config, check_cross
from tfguide.config import ModelConfig
from tfguide.torch.attention import MultiHeadAttention
from tfguide.torch.experts import MixtureOfExperts
from tfguide.torch.feedforward import FeedForward
from tfguide.torch.latent import MultiHeadLatentAttention
from tfguide.torch.modified import ModifiedAttention
from tfguide.torch.norms import make_norm


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection and a norm.

    `config.norm_placement`: "pre" normalises the input of a sublayer, "post" the sum after it, "both" the input and the
    output, and "parallel" gives both sublayers the same normalised input (Chowdhery et al. 2022, section 2).
    `config.residual_scale` multiplies the output of a sublayer. layer: which block of its stack it is, where layers
    differ, as with experts. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig, layer: int = 0):
        super().__init__()
        check_config(config)
        self.placement, self.residual_scale = config.norm_placement, config.residual_scale
        self.self_attention_norm = make_norm(config)
        self.self_attention = make_attention(config)
        if self.placement != "parallel":
            self.feed_forward_norm = make_norm(config)
        if self.placement == "both":
            self.self_attention_post_norm, self.feed_forward_post_norm = make_norm(config), make_norm(config)
        self.feed_forward = make_feed_forward(config, layer)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, visible=None, bias=None, rotation=None, record=None):
        """x: (B, T, D); visible, bias, rotation: as in `MultiHeadAttention`.

        record: called with the weights (B, H, T, S) of each attention in turn; None: they are not computed.
        """

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            return self.self_attention(h, visible=visible, bias=bias, rotation=rotation)

        return self._sublayers(x, attend)

    def _sublayers(self, x, attend, cross_attend=None):
        """The sublayers, one after the other or in parallel, each with its norm and its residual connection."""
        if self.placement == "parallel":
            h = self.self_attention_norm(x)
            return x + self._scaled(attend(h)) + self._scaled(self.feed_forward(h))
        if self.placement == "both":
            x = x + self._scaled(self.self_attention_post_norm(attend(self.self_attention_norm(x))))
            return x + self._scaled(self.feed_forward_post_norm(self.feed_forward(self.feed_forward_norm(x))))
        x = self._residual(x, self.self_attention_norm, attend)
        if cross_attend is not None:
            x = self._residual(x, self.cross_attention_norm, cross_attend)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x, norm, sublayer):
        """The residual connection around a sublayer, with the norm before or after it."""
        if self.placement == "pre":
            return x + self._scaled(sublayer(norm(x)))
        return norm(x + self._scaled(sublayer(x)))

    def _scaled(self, x):
        """The output of a sublayer as it is added to its input."""
        x = self.dropout(x)
        return x if self.residual_scale == 1 else x * self.residual_scale


class DecoderBlock(EncoderBlock):
    """An encoder block with optional cross-attention to an encoder's output between its two sublayers.

    It has cross-attention where `config.kind` is "encoder-decoder". A block itself is not causal: the caller's
    `visible` says what a position may see, and a model passes a causal mask. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig, layer: int = 0):
        super().__init__(config, layer)
        self.crosses = config.kind == "encoder-decoder"
        if self.crosses:
            self.cross_attention_norm = make_norm(config)
            self.cross_attention = make_attention(config)

    def forward(
        self, x, visible=None, bias=None, rotation=None, memory=None, memory_visible=None, record=None, cache=None
    ):
        """x, visible, bias, rotation, record: as in `EncoderBlock`.

        memory: (B, S, D), the encoder's output; memory_visible: which of its positions may be seen.
        cache: this layer's part of a cache; attention also covers its positions, and the new ones are appended.
        """
        check_cross(self.crosses, memory is not None)

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            if cache is None:
                return self.self_attention(h, visible=visible, bias=bias, rotation=rotation)
            parts = cache.append(*self.self_attention.keys_values(h, rotation))
            return self.self_attention.attend(h, *parts, visible, bias, rotation)

        def cross_attend(h):
            if record is not None:
                record(self.cross_attention.attention_map(h, memory, memory_visible))
            if cache is None:
                return self.cross_attention(h, memory, visible=memory_visible)
            parts = cache.cross(self.cross_attention, memory)
            return self.cross_attention.attend(h, *parts, memory_visible)

        return self._sublayers(x, attend, cross_attend if self.crosses else None)


def make_attention(config: ModelConfig):
    """The attention layer of a configuration."""
    sizes = config.d_model, config.n_heads, config.n_kv_heads, config.d_head
    options = config.qkv_bias, config.output_bias, config.attention_scale
    if config.latent is not None:
        return MultiHeadLatentAttention(config.d_model, config.n_heads, config.latent, *options)
    if not config.modifies_attention:
        return MultiHeadAttention(*sizes, *options)
    norm_eps = config.norm_eps if config.qk_norm else None
    return ModifiedAttention(*sizes, *options, norm_eps, config.attention_softcap, config.attention_sinks)


def make_feed_forward(config: ModelConfig, layer: int = 0):
    """The feed-forward network of a layer, or its mixture of experts."""
    wide = config.positions == "relative"
    if config.has_experts(layer):
        return MixtureOfExperts(config.d_model, config.experts, config.activation, config.ffn_bias, wide)
    return FeedForward(config.d_model, config.d_ff, config.activation, config.ffn_bias, wide)
