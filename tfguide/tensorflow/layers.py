"""Norms, and the blocks that models are stacked from."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfguide.checks.shapes import check_config, check_cross, check_features
from tfguide.config import ModelConfig
from tfguide.tensorflow.attention import MultiHeadAttention, at_least_float32
from tfguide.tensorflow.feedforward import FeedForward


def layer_norm(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None = None, eps: float = 1e-5) -> tf.Tensor:
    """Each position's features shifted to mean 0 and scaled to variance 1, then `* weight + bias`; shape as x.

    x: (..., D); weight, bias: (D,). Source: Ba et al. 2016.
    """
    wide = at_least_float32(x)
    wide = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
    wide = wide * tf.math.rsqrt(tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True) + eps)
    wide = wide * tf.cast(weight, wide.dtype)
    return tf.cast(wide if bias is None else wide + tf.cast(bias, wide.dtype), x.dtype)


def rms_norm(x: tf.Tensor, weight: tf.Tensor, eps: float = 1e-6) -> tf.Tensor:
    """Each position's features scaled to root mean square 1, then `* weight`; shape as x.

    x: (..., D); weight: (D,). Source: Zhang & Sennrich 2019.
    """
    wide = at_least_float32(x)
    wide = wide * tf.math.rsqrt(tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True) + eps)
    return tf.cast(wide * tf.cast(weight, wide.dtype), x.dtype)


class LayerNorm(keras.layers.Layer):
    """`layer_norm` with its weight and bias. Raises ValueError where the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True):
        super().__init__(autocast=False)
        self.eps = eps
        self.weight = self.add_weight(name="weight", shape=(d_model,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(d_model,), initializer="zeros") if bias else None
        self.built = True

    def call(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a sum that is kept in float32."""
        check_features("x", tuple(x.shape), self.weight.shape[0])
        return tf.cast(layer_norm(x, self.weight, self.bias, self.eps), self.compute_dtype)


class RMSNorm(keras.layers.Layer):
    """`rms_norm` with its weight. Raises ValueError where the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__(autocast=False)
        self.eps = eps
        self.weight = self.add_weight(name="weight", shape=(d_model,), initializer="ones")
        self.built = True

    def call(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a sum that is kept in float32."""
        check_features("x", tuple(x.shape), self.weight.shape[0])
        return tf.cast(rms_norm(x, self.weight, self.eps), self.compute_dtype)


class EncoderBlock(keras.layers.Layer):
    """Self-attention and a feed-forward network, each with a residual connection and a norm.

    `config.norm_placement`: "pre" normalises what goes into a sublayer, "post" the sum that comes out, "parallel" lets
    both sublayers read the same normalised input (Chowdhery et al. 2022, section 2). (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig):
        super().__init__(autocast=False)
        check_config(config)
        self.placement = config.norm_placement
        self.self_attention_norm = make_norm(config)
        self.self_attention = make_attention(config)
        if self.placement != "parallel":
            self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(
            config.d_model, config.d_ff, config.activation, config.ffn_bias, wide=config.positions == "relative"
        )
        self.dropout = keras.layers.Dropout(config.dropout, autocast=False)
        self.built = True

    def call(self, x, visible=None, bias=None, rotation=None, record=None):
        """x: (B, T, D); visible, bias, rotation: as in `MultiHeadAttention`.

        record: called with the weights (B, H, T, S) of each attention in turn; None: they are not computed.
        """

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            return self.self_attention(h, None, visible, bias, rotation)

        if self.placement == "parallel":
            h = self.self_attention_norm(x)
            return add(add(x, self.dropout(attend(h))), self.dropout(self.feed_forward(h)))
        x = self._residual(x, self.self_attention_norm, attend)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x, norm, sublayer):
        """x plus what the sublayer makes of it, normalised before or after."""
        if self.placement == "pre":
            return add(x, self.dropout(sublayer(norm(x))))
        return norm(add(x, self.dropout(sublayer(x))))


class DecoderBlock(EncoderBlock):
    """An encoder block that may also attend to an encoder's output, between its two other sublayers.

    It has cross-attention where `config.kind` is "encoder-decoder". Nothing in a block is causal by itself: what a
    position may see is the caller's `visible`, and a model makes it causal. (B, T, D) to (B, T, D).
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.crosses = config.kind == "encoder-decoder"
        if self.crosses:
            self.cross_attention_norm = make_norm(config)
            self.cross_attention = make_attention(config)

    def call(
        self, x, visible=None, bias=None, rotation=None, memory=None, memory_visible=None, record=None, cache=None
    ):
        """x, visible, bias, rotation, record: as in `EncoderBlock`.

        memory: (B, S, D), the encoder's output; memory_visible: which of its positions may be seen.
        cache: this layer's part of a `KVCache`; what it holds already is seen as well, and what is new is added to it.
        """
        check_cross(self.crosses, memory is not None)

        def attend(h):
            if record is not None:
                record(self.self_attention.attention_map(h, None, visible, bias, rotation))
            if cache is None:
                return self.self_attention(h, None, visible, bias, rotation)
            key, value = cache.append(*self.self_attention.keys_values(h, rotation))
            return self.self_attention.attend(h, key, value, visible, bias, rotation)

        def cross_attend(h):
            if record is not None:
                record(self.cross_attention.attention_map(h, memory, memory_visible))
            if cache is None:
                return self.cross_attention(h, memory, memory_visible)
            key, value = cache.cross(self.cross_attention, memory)
            return self.cross_attention.attend(h, key, value, memory_visible)

        if self.placement == "parallel":
            h = self.self_attention_norm(x)
            return add(add(x, self.dropout(attend(h))), self.dropout(self.feed_forward(h)))
        x = self._residual(x, self.self_attention_norm, attend)
        if self.crosses:
            x = self._residual(x, self.cross_attention_norm, cross_attend)
        return self._residual(x, self.feed_forward_norm, self.feed_forward)


def add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """x + y in the wider type of the two, as PyTorch adds."""
    if x.dtype == y.dtype:
        return x + y
    return at_least_float32(x) + at_least_float32(y)


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
