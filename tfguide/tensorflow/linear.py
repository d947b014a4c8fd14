"""Keras layers that know their sizes from the start, so that a model has its weights before it has seen an input."""

from __future__ import annotations

import keras


def linear(d_in: int, d_out: int, bias: bool = True) -> keras.layers.Dense:
    """A dense layer with its weights: `x @ kernel + bias`, kernel (in, out)."""
    layer = keras.layers.Dense(d_out, use_bias=bias)
    layer.build((None, d_in))
    return layer


def embedding(n_rows: int, d_model: int) -> keras.layers.Embedding:
    """A table (rows, D) read by row number, with its weights."""
    layer = keras.layers.Embedding(n_rows, d_model)
    layer.build()
    return layer
