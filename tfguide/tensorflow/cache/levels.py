"""Numbers as 16 levels, two to a byte: what a 4-bit cache stores."""

from __future__ import annotations

import tensorflow as tf

from tfguide.generation.blockwise import group_sizes


def to_levels(x: tf.Tensor, dim: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Groups of float16 numbers along an axis as levels 0 to 15, uint8, with the step and the minimum of each group.

    Level l stands for `minimum + step l`; the step is a fifteenth of the group's range, rounded to float16. The error
    of a number is at most half the step, except that a range below 1e-6 may be lost. A group with NaN becomes NaN.
    """
    wide = tf.cast(x, tf.float32)
    broken = 0 * tf.reduce_sum(wide, dim, keepdims=True)  # NaN in a group with NaN: a minimum may pass over it
    minimum = tf.reduce_min(wide, dim, keepdims=True) + broken
    step = tf.cast((tf.reduce_max(wide, dim, keepdims=True) - minimum) / 15, tf.float16)
    divisor = tf.where(step == 0, 1.0, tf.cast(step, tf.float32))
    levels = tf.clip_by_value(tf.round((wide - minimum) / divisor), 0, 15)
    levels = tf.where(tf.math.is_nan(levels), 0.0, levels)
    return tf.cast(levels, tf.uint8), tf.squeeze(step, dim), tf.squeeze(tf.cast(minimum, tf.float16), dim)


def from_levels(levels: tf.Tensor, step: tf.Tensor, minimum: tf.Tensor, dim: int) -> tf.Tensor:
    """The numbers, float32, for which levels stand: the inverse of `to_levels`, but for its rounding."""
    step, minimum = (tf.expand_dims(tf.cast(part, tf.float32), dim) for part in (step, minimum))
    return minimum + tf.cast(levels, tf.float32) * step


def to_groups(x: tf.Tensor) -> tf.Tensor:
    """Vectors (..., d) in groups of at most 32 features, (..., groups, size); the last feature fills the last group."""
    d = x.shape[-1]
    n, size = group_sizes(d)
    if n * size > d:
        x = tf.concat([x, tf.repeat(x[..., -1:], n * size - d, axis=-1)], axis=-1)
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [n, size]], axis=0))


def pack(levels: tf.Tensor) -> tf.Tensor:
    """Levels (..., d), uint8, two to a byte: (..., d / 2), rounded up. Byte i holds features i and i + d / 2."""
    half = -(-levels.shape[-1] // 2)
    low, high = levels[..., :half], levels[..., half:]
    if high.shape[-1] < half:
        high = tf.pad(high, [[0, 0]] * (len(high.shape) - 1) + [[0, 1]])
    return low + 16 * high


def unpack(packed: tf.Tensor, d: int) -> tf.Tensor:
    """The inverse of `pack`: levels (..., d), uint8."""
    high = tf.bitwise.right_shift(packed, tf.constant(4, tf.uint8))
    low = tf.bitwise.bitwise_and(packed, tf.constant(15, tf.uint8))
    return tf.concat([low, high], axis=-1)[..., :d]
