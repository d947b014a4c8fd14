"""The feed-forward network: widen each position to F features, apply a non-linearity, and narrow back to D."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfguide.checks.shapes import check_activation, check_features, check_feed_forward
from tfguide.config import GATED_ACTIVATIONS
from tfguide.tensorflow.linear import linear


def activate(activation: str, up: tf.Tensor, gate: tf.Tensor | None = None) -> tf.Tensor:
    """The non-linearity: `f(up)`, or `f(gate) * up` for the gated ones.

    up, gate: (..., F); activation: "relu", "gelu" (exact), "gelu_tanh" (approximate), and gated "swiglu", "geglu",
    "geglu_tanh". Raises ValueError for an unknown activation and for a missing or superfluous gate.
    Source: Hendrycks & Gimpel 2016; gates: Shazeer 2020.
    """
    check_activation(activation, gate is not None)
    if activation == "relu":
        return tf.nn.relu(up)
    if activation == "gelu":
        return tf.nn.gelu(up)
    if activation == "gelu_tanh":
        return tf.nn.gelu(up, approximate=True)
    if activation == "swiglu":
        return tf.nn.silu(gate) * up
    return tf.nn.gelu(gate, approximate=activation == "geglu_tanh") * up


class FeedForward(keras.layers.Layer):
    """Two linear maps with a non-linearity between them, three with a gate; (B, T, D) to (B, T, D).

    `up` (and `gate`): D to F; `down`: F to D. Each position is transformed independently, with the same weights. wide:
    in a float16 model, `down` and its output are float32, for networks whose output float16 cannot hold (T5).
    Source: Vaswani et al. 2017, section 3.3; gates: Shazeer 2020. Raises ValueError for an unknown activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True, wide: bool = False):
        super().__init__()
        check_feed_forward(d_model, d_ff, activation)
        self.d_model = d_model
        self.activation = activation
        self.gate = linear(d_model, d_ff, bias=bias) if activation in GATED_ACTIVATIONS else None
        self.up = linear(d_model, d_ff, bias=bias)
        half = wide and self.compute_dtype == "float16"
        self.down = linear(d_ff, d_model, bias=bias, dtype="float32" if half else None)
        self.wide = half
        self.built = True

    def activated(self, up, gate=None):
        """The non-linearity of this network, applied to `up` and, if gated, the gate, each (B, T, F)."""
        return activate(self.activation, up, gate)

    def call(self, x):
        """x: (B, T, D) to (B, T, D)."""
        check_features("x", tuple(x.shape), self.d_model)
        gate = None if self.gate is None else self.gate(x)  # (B, T, F)
        h = self.activated(self.up(x), gate)
        return self.down(tf.cast(h, tf.float32) if self.wide else h)
