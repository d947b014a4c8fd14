"""Layer normalisation and root mean square normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfguide.checks.shapes import check_features
from tfguide.config import ModelConfig


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Each position's features shifted to mean 0 and scaled to variance 1, then `* weight + bias`; shape as x.

    x: (..., D); weight, bias: (D,). Source: Ba et al. 2016.
    """
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Each position's features scaled to root mean square 1, then `* weight`; shape as x.

    x: (..., D); weight: (D,). Source: Zhang & Sennrich 2019.
    """
    return F.rms_norm(x, weight.shape, weight, eps)


class LayerNorm(nn.Module):
    """`layer_norm` with its weight and bias. Raises ValueError if the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a residual sum kept in float32."""
        check_features("x", tuple(x.shape), len(self.weight))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return layer_norm(x, self.weight.to(x.dtype), bias, self.eps).to(self.weight.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with its weight. Raises ValueError if the input does not end in D features."""

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        """x: (..., D) to the same shape, in the type of the layer: x may be a residual sum kept in float32."""
        check_features("x", tuple(x.shape), len(self.weight))
        return rms_norm(x, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


def make_norm(config: ModelConfig):
    """The norm layer of a configuration."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.norm_eps, config.norm_bias)
