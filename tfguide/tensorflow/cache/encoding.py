"""How a cache of each type represents keys and values."""

from __future__ import annotations

import math

import tensorflow as tf


def encode(parts: tuple[tf.Tensor, ...], dtype: tf.DType) -> tuple[tf.Tensor, ...]:
    """Parts (..., d) as a cache of this type stores them.

    int8: the integers of each part, from -127 to 127, then the scale (...) of each: the largest magnitude of a vector
    of d numbers / 127. float16: a number beyond 65504 becomes NaN and not infinity. An infinite key can give a score of
    minus infinity, which hides its position without an error; from NaN the logits become NaN, which no choice accepts.
    """
    if dtype != tf.int8:
        return tuple(part if part.dtype == dtype else _converted(part, dtype) for part in parts)
    parts = tuple(tf.cast(part, tf.float32) for part in parts)
    scales = tuple(tf.reduce_max(tf.abs(part), axis=-1) / 127 for part in parts)
    integers = (
        tf.round(part / tf.where(scale == 0, 1.0, scale)[..., None]) for part, scale in zip(parts, scales, strict=True)
    )
    return (*(tf.cast(part, tf.int8) for part in integers), *scales)


def decode(stored: tuple[tf.Tensor, ...], dtype: tf.DType) -> tuple[tf.Tensor, ...]:
    """What `encode` returned, or places of it, as parts (..., d) in the type of a model."""
    if stored[0].dtype != tf.int8:
        return tuple(tf.cast(part, dtype) for part in stored)
    n = len(stored) // 2
    return tuple(
        tf.cast(tf.cast(integers, tf.float32) * scale[..., None], dtype)
        for integers, scale in zip(stored[:n], stored[n:], strict=True)
    )


def _converted(part, dtype):
    stored = tf.cast(part, dtype)
    return tf.where(tf.math.is_inf(stored), tf.constant(math.nan, dtype), stored) if dtype == tf.float16 else stored
