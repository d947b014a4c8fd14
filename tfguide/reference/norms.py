"""Layer normalisation and root mean square normalisation."""

from __future__ import annotations

import numpy as np

from tfguide.checks.shapes import check_features
from tfguide.config import ModelConfig


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


def make_norm(config: ModelConfig):
    """The norm that a configuration asks for."""
    if config.norm == "rms":
        return RMSNorm(config.d_model, config.norm_eps)
    return LayerNorm(config.d_model, config.norm_eps, config.norm_bias)
