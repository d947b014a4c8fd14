"""The feed-forward network: widen each position to F features, apply a non-linearity, and narrow back to D."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfguide.checks.shapes import check_activation, check_features, check_feed_forward
from tfguide.config import GATED_ACTIVATIONS


def activate(activation: str, up: Tensor, gate: Tensor | None = None) -> Tensor:
    """The non-linearity: `f(up)`, or `f(gate) * up` for the gated ones.

    up, gate: (..., F); activation: "relu", "gelu" (exact), "gelu_tanh" (approximate), and gated "swiglu", "geglu",
    "geglu_tanh". Raises ValueError for an unknown activation and for a missing or superfluous gate.
    Source: Hendrycks & Gimpel 2016; gates: Shazeer 2020.
    """
    check_activation(activation, gate is not None)
    if activation == "relu":
        return F.relu(up)
    if activation == "gelu":
        return F.gelu(up)
    if activation == "gelu_tanh":
        return F.gelu(up, approximate="tanh")
    if activation == "swiglu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="none" if activation == "geglu" else "tanh") * up


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between them, three with a gate; (B, T, D) to (B, T, D).

    `up` (and `gate`): D to F; `down`: F to D. Each position is transformed independently, with the same weights. wide:
    in a float16 model, `down` and its output are float32, for networks whose output float16 cannot hold (T5).
    Source: Vaswani et al. 2017, section 3.3; gates: Shazeer 2020. Raises ValueError for an unknown activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str = "gelu", bias: bool = True, wide: bool = False):
        super().__init__()
        check_feed_forward(d_model, d_ff, activation)
        self.d_model, self.activation, self.wide = d_model, activation, wide
        self.gate = nn.Linear(d_model, d_ff, bias=bias) if activation in GATED_ACTIVATIONS else None
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)

    def activated(self, up, gate=None):
        """The non-linearity of this network, applied to `up` and, if gated, the gate, each (B, T, F)."""
        return activate(self.activation, up, gate)

    def forward(self, x):
        """x: (B, T, D) to (B, T, D)."""
        check_features("x", tuple(x.shape), self.d_model)
        gate = None if self.gate is None else self.gate(x)  # (B, T, F)
        h = self.activated(self.up(x), gate)
        return self.down(h.float() if self.wide and h.dtype == torch.float16 else h)
