"""The blocks that a model is a stack of."""

from __future__ import annotations

from tfguide.checks.shapes import check_config, check_cross
from tfguide.config import ModelConfig
from tfguide.reference.attention import MultiHeadAttention
from tfguide.reference.experts import MixtureOfExperts
from tfguide.reference.feedforward import FeedForward
from tfguide.reference.latent import MultiHeadLatentAttention
from tfguide.reference.modified import ModifiedAttention
from tfguide.reference.norms import make_norm


class EncoderBlock:
    """Self-attention and a feed-forward network, each with a residual connection and a norm.

    `config.norm_placement`: "pre" normalises the input of a sublayer, "post" the sum after it, "both" the input and the
    output; with "parallel" both sublayers read the same normalised input (Chowdhery et al. 2022, section 2).
    `config.residual_scale` multiplies the output of a sublayer. layer: which block of its stack it is, where layers
    differ, as with experts. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig, layer: int = 0):
        check_config(config)
        self.placement, self.residual_scale = config.norm_placement, config.residual_scale
        self.self_attention_norm = make_norm(config)
        self.self_attention = make_attention(config)
        if self.placement != "parallel":
            self.feed_forward_norm = make_norm(config)
        if self.placement == "both":
            self.self_attention_post_norm, self.feed_forward_post_norm = make_norm(config), make_norm(config)
        self.feed_forward = make_feed_forward(config, layer)

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
            return x + self.residual_scale * (attend(h) + self.feed_forward(h))
        if self.placement == "both":
            x = x + self.residual_scale * self.self_attention_post_norm(attend(self.self_attention_norm(x)))
            h = self.feed_forward(self.feed_forward_norm(x))
            return x + self.residual_scale * self.feed_forward_post_norm(h)
        x = self._residual(x, self.self_attention_norm, attend)
        if cross_attend is not None:
            x = self._residual(x, self.cross_attention_norm, cross_attend)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x, norm, sublayer):
        """x plus the output of the sublayer, with the norm before the sublayer or after the sum."""
        if self.placement == "pre":
            return x + self.residual_scale * sublayer(norm(x))
        return norm(x + self.residual_scale * sublayer(x))


class DecoderBlock(EncoderBlock):
    """An encoder block that may also attend to an encoder's output, between its two other sublayers.

    A block has cross-attention where `config.kind` is "encoder-decoder". A block is not causal by itself: the caller's
    `visible` says what a position may see, and a model passes a causal mask. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig, layer: int = 0):
        super().__init__(config, layer)
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


def make_attention(config: ModelConfig):
    """The attention that a configuration asks for."""
    sizes = config.d_model, config.n_heads, config.n_kv_heads, config.d_head
    options = config.qkv_bias, config.output_bias, config.attention_scale
    if config.latent is not None:
        return MultiHeadLatentAttention(config.d_model, config.n_heads, config.latent, *options)
    if not config.modifies_attention:
        return MultiHeadAttention(*sizes, *options)
    return ModifiedAttention(
        *sizes, *options, config.norm_eps if config.qk_norm else None, config.attention_softcap, config.attention_sinks
    )


def make_feed_forward(config: ModelConfig, layer: int = 0):
    """The feed-forward network of a layer, or its mixture of experts."""
    if config.has_experts(layer):
        return MixtureOfExperts(config.d_model, config.experts, config.activation, config.ffn_bias)
    return FeedForward(config.d_model, config.d_ff, config.activation, config.ffn_bias)
