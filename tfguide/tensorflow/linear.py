"""Keras layers that have their weights from the start, and models that are built without weights."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras

from tfguide.tensorflow.tensors import multiply_rows

_leaving_out = contextvars.ContextVar("leaving_out", default=frozenset())


class Linear(keras.layers.Dense):
    """`keras.layers.Dense`, (..., in) to (..., out), as one product of two matrices: see `multiply_rows`."""

    def call(self, x):
        """x: (..., in) to (..., out), in the compute type of the layer."""
        y = multiply_rows(x, self.kernel)
        return y if self.bias is None else y + self.bias


def linear(
    d_in: int, d_out: int, bias: bool = True, dtype: str | None = None, compressed: bool = True
) -> keras.layers.Layer:
    """A dense layer with its weights: `x @ kernel + bias`, kernel (in, out); dtype: default: that of the policy.

    compressed: whether quantisation replaces the layer, so that `left_out` leaves it out.
    """
    if compressed and leaves_out_matrices():
        return keras.layers.Identity()
    layer = Linear(d_out, use_bias=bias, dtype=dtype)
    layer.build((None, d_in))
    return layer


def embedding(n_rows: int, d_model: int) -> keras.layers.Layer:
    """A table (rows, D) read by row number, with its weights."""
    if "tables" in _leaving_out.get():
        return keras.layers.Identity()
    layer = keras.layers.Embedding(n_rows, d_model)
    layer.build()
    return layer


def leaves_out_matrices() -> bool:
    """Whether layers are now built without their matrices: see `left_out`."""
    return "matrices" in _leaving_out.get()


@contextlib.contextmanager
def left_out(tables: bool = False) -> Iterator[None]:
    """Within the block, layers are built without their matrices; the caller replaces these layers afterwards.

    tables: also without their embedding tables.
    """
    token = _leaving_out.set(frozenset({"matrices", "tables"} if tables else {"matrices"}))
    try:
        yield
    finally:
        _leaving_out.reset(token)
