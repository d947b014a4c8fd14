"""The linear map and the embedding table, which PyTorch and Keras have and NumPy has not."""

from __future__ import annotations

import numpy as np

from tfguide.checks.shapes import check_features


class Linear:
    """`x @ weight + bias` with weight (in, out); zeros until the weights are set."""

    def __init__(self, d_in: int, d_out: int, bias: bool = True):
        self.weight = np.zeros((d_in, d_out))
        self.bias = np.zeros(d_out) if bias else None

    def __call__(self, x):
        """x: (..., in) to (..., out)."""
        check_features("x", np.shape(x), len(self.weight))
        x = x @ self.weight
        return x if self.bias is None else x + self.bias


class Embedding:
    """A table (rows, D) read by row number."""

    def __init__(self, n_rows: int, d_model: int):
        self.weight = np.zeros((n_rows, d_model))

    def __call__(self, rows):
        """rows: integers of any shape (...) to (..., D)."""
        return self.weight[rows]


def assign(layer, weights) -> None:
    """Set the weights of nested layers; a weight's name is the path of attributes to its array."""
    for name, array in weights.items():
        *path, last = name.split(".")
        owner = layer
        for step in path:
            owner = owner[int(step)] if isinstance(owner, list) else getattr(owner, step)
        setattr(owner, last, np.asarray(array, np.float64))
