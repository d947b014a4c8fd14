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


def to_float32(x) -> np.ndarray:
    """A tensor, a variable or an array as a float32 array, copied only if the type changes."""
    return np.asarray(tf.convert_to_tensor(x).numpy(), np.float32)
