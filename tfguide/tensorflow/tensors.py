"""Sizes and types of tensors, in a graph or eager."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """x in float32 or its own wider type: half precision has too few digits for a sum of exponentials."""
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x


def shape_of(x) -> tuple[int | None, ...]:
    """The static shape: a size is None in a graph that is traced for any size."""
    return tuple(x.shape)


def sizes_of(x: tf.Tensor) -> list:
    """The size of every axis: an int where it is known, else a scalar tensor."""
    sizes = tf.shape(x) if None in x.shape else x.shape
    return [sizes[i] if size is None else size for i, size in enumerate(x.shape)]


def multiply_rows(x: tf.Tensor, matrix: tf.Tensor, transpose: bool = False) -> tf.Tensor:
    """x (..., in) times a matrix (in, out), or times the transpose of (out, in), as one product of two matrices.

    `tf.matmul` with more axes than two takes one product for each row of the batch, and reads the matrix as often;
    `tf.tensordot` takes longer to find its shapes than a small product takes. A shape that is an array is converted
    in C++, a tuple in Python.
    """
    *others, d_in = x.shape
    if len(others) == 1:
        return tf.matmul(x, matrix, transpose_b=transpose)
    product = tf.matmul(tf.reshape(x, np.array((-1, d_in), np.int32)), matrix, transpose_b=transpose)
    d_out = matrix.shape[0 if transpose else 1]
    known = None not in others
    return tf.reshape(product, np.array((*others, d_out), np.int32) if known else [*sizes_of(x)[:-1], d_out])


def to_float32(x) -> np.ndarray:
    """A tensor, a variable or an array as a float32 array, copied only if the type changes."""
    return np.asarray(tf.convert_to_tensor(x).numpy(), np.float32)
