"""Layer normalisation and root mean square normalisation."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfguide.checks.shapes import check_features
from tfguide.config import ModelConfig
from tfguide.tensorflow.tensors import at_least_float32


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
    """`layer_norm` with its weight and bias. Raises ValueError if the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True):
        super().__init__(autocast=False)
        self.eps = eps
        self.weight = self.add_weight(name="weight", shape=(d_model,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(d_model,), initializer="zeros") if bias else None
        self.built = True

    def call(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a residual sum kept in float32."""
        check_features("x", tuple(x.shape), self.weight.shape[0])
        return tf.cast(layer_norm(x, self.weight, self.bias, self.eps), self.compute_dtype)


class RMSNorm(keras.layers.Layer):
    """`rms_norm` with its weight. Raises ValueError if the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__(autocast=False)
        self.eps = eps
        self.weight = self.add_weight(name="weight", shape=(d_model,), initializer="ones")
        self.built = True

    def call(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a residual sum kept in float32."""
        check_features("x", tuple(x.shape), self.weight.shape[0])
        return tf.cast(rms_norm(x, self.weight, self.eps), self.compute_dtype)


def make_norm(config: ModelConfig):
    """The norm layer of a configuration."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.norm_eps, config.norm_bias)
