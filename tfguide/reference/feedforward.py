"""The feed-forward network: a linear map to F features, the activation, and a linear map back to D features."""

from __future__ import annotations

import math

import numpy as np

from tfguide.checks.shapes import check_activation, check_feed_forward
from tfguide.config import GATED_ACTIVATIONS
from tfguide.reference.linear import Linear

_erf = np.vectorize(math.erf, otypes=[np.float64])


def activate(activation: str, up: np.ndarray, gate: np.ndarray | None = None) -> np.ndarray:
    """The activation: `f(up)`, or `f(gate) * up` for a gated one.

    up, gate: (..., F); activation: "relu", "gelu" (exact), "gelu_tanh" (approximate), and gated "swiglu", "geglu",
    "geglu_tanh". Raises ValueError for an unknown activation, a gate with a plain one, or no gate with a gated one.
    Source: Hendrycks & Gimpel 2016; gates: Shazeer 2020.
    """
    check_activation(activation, gate is not None)
    if activation == "relu":
        return np.maximum(up, 0)
    if activation == "gelu":
        return _gelu(up)
    if activation == "gelu_tanh":
        return _gelu_tanh(up)
    if activation == "swiglu":
        return gate * (1 + np.tanh(gate / 2)) / 2 * up  # the sigmoid by tanh: nothing overflows
    return (_gelu(gate) if activation == "geglu" else _gelu_tanh(gate)) * up


class FeedForward:
    """Two linear maps with an activation between them, three with a gate; (B, T, D) to (B, T, D).

    `up` (and `gate`): D to F; `down`: F to D. Every position goes through the same maps, by itself.
    wide: asks for more than half precision after `down`; float64 has it already.
    Source: Vaswani et al. 2017, section 3.3; gates: Shazeer 2020. Raises ValueError for an unknown activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True, wide: bool = False):
        check_feed_forward(d_model, d_ff, activation)
        self.activation = activation
        self.gate = Linear(d_model, d_ff, bias) if activation in GATED_ACTIVATIONS else None
        self.up = Linear(d_model, d_ff, bias)
        self.down = Linear(d_ff, d_model, bias)

    def __call__(self, x):
        """x: (B, T, D) to (B, T, D)."""
        gate = None if self.gate is None else self.gate(x)  # (B, T, F)
        return self.down(activate(self.activation, self.up(x), gate))


def _gelu(x):
    return x * (1 + _erf(x / math.sqrt(2))) / 2  # x times the probability that a standard normal is below x


def _gelu_tanh(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
