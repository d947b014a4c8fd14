"""Keras layers that know their sizes from the start, so that a model has its weights before it has seen an input."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras

_leaving_out = contextvars.ContextVar("leaving_out", default=False)


def linear(d_in: int, d_out: int, bias: bool = True, dtype: str | None = None) -> keras.layers.Layer:
    """A dense layer with its weights: `x @ kernel + bias`, kernel (in, out); dtype: by default that of the policy."""
    if _leaving_out.get():
        return keras.layers.Identity()
    layer = keras.layers.Dense(d_out, use_bias=bias, dtype=dtype)
    layer.build((None, d_in))
    return layer


def embedding(n_rows: int, d_model: int) -> keras.layers.Embedding:
    """A table (rows, D) read by row number, with its weights."""
    layer = keras.layers.Embedding(n_rows, d_model)
    layer.build()
    return layer


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Within the block `linear` makes layers without weights, that somebody else's layers will replace."""
    token = _leaving_out.set(True)
    try:
        yield
    finally:
        _leaving_out.reset(token)
