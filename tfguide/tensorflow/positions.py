"""Sinusoidal, rotary, ALiBi and relative positions (learned positions are a table in the embeddings)."""

from __future__ import annotations

import tensorflow as tf

from tfguide.frequencies import (
    alibi_slopes,
    dynamic_exponents,
    relative_bucket_table,
    rotary_frequencies,
    sinusoidal_frequencies,
)
from tfguide.scalings import LongRopeScaling, Scaling


def sinusoidal_positions(positions: tf.Tensor, d_model: int) -> tf.Tensor:
    """The sinusoidal encoding of `positions` (B, T): (B, T, D), added to the embeddings.

    Feature 2i is `sin(position * 10000 ** (-2i / D))`, feature 2i + 1 its cosine.
    Raises ValueError for an odd D. Source: Vaswani et al. 2017, section 3.5.
    """
    angles = _angles(positions, sinusoidal_frequencies(d_model))  # (B, T, D / 2)
    pairs = tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1)
    return tf.cast(tf.reshape(pairs, tf.concat([tf.shape(angles)[:-1], [d_model]], axis=0)), tf.float32)


def rotary_angles(positions: tf.Tensor, frequencies: tf.Tensor, factor: float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """The cosines and sines by which `rotate` turns the heads at `positions` (B, T): two tensors (B, T, d / 2).

    frequencies: (d / 2,) or (B, T, d / 2). factor: multiplies both, see `attention_factor` of `tfguide.frequencies`.
    """
    angles = _angles(positions, frequencies)
    return tf.cast(factor * tf.cos(angles), tf.float32), tf.cast(factor * tf.sin(angles), tf.float32)


def text_lengths(positions: tf.Tensor, valid: tf.Tensor | None = None) -> tf.Tensor:
    """The length of each row's text, (B or 1, 1): its last position that is not padding is the length minus 1.

    positions: (B or 1, T); valid: (B, T), True at real tokens.
    """
    ends = positions + 1
    return tf.reduce_max(ends if valid is None else ends * tf.cast(valid, ends.dtype), axis=1, keepdims=True)


def frequencies_of(lengths: tf.Tensor, d_rotary: int, theta: float, scaling: Scaling) -> tf.Tensor:
    """`rotary_frequencies` for texts of `lengths` (B, T), in a scaling that depends on it: (B, T, d / 2), float64."""
    trained, lengths = scaling.original_max_positions, lengths[..., None]  # (B, T, 1)
    short, long = (
        tf.constant(rotary_frequencies(d_rotary, theta, scaling, n), tf.float64) for n in (trained, trained + 1)
    )
    if isinstance(scaling, LongRopeScaling):
        return tf.where(lengths > trained, long, short)
    growth = scaling.factor * (tf.cast(tf.maximum(lengths, trained), tf.float64) / trained) - (scaling.factor - 1.0)
    return short * growth ** tf.constant(dynamic_exponents(d_rotary), tf.float64)


def rotate(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor) -> tf.Tensor:
    """Turn each pair of features of the heads `x` (B, T, H, d) by its angle; (B, T, H, d).

    The pairs are (i, i + d/2), as in published Llama weights; the paper's (2i, 2i + 1) is the same up to the
    order of the features. cos, sin: (B, T, d / 2); with fewer angles, r / 2, only the first r features are turned.
    Source: Su et al. 2021, equation 34.
    """
    dtype = x.dtype
    x = tf.cast(x, cos.dtype)
    cos, sin = tf.expand_dims(cos, 2), tf.expand_dims(sin, 2)  # (B, T, 1, d / 2): the same for every head
    half = cos.shape[-1]
    first, second, rest = tf.split(x, [half, half, x.shape[-1] - 2 * half], axis=-1)
    return tf.cast(tf.concat([first * cos - second * sin, second * cos + first * sin, rest], axis=-1), dtype)


def alibi_bias(query_positions: tf.Tensor, key_positions: tf.Tensor, n_heads: int) -> tf.Tensor:
    """ALiBi: a key at `distance` loses `slope * distance` of its score, with a slope for each head; bias (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S). Source: Press et al. 2022, section 3.
    """
    distance = tf.abs(query_positions[:, :, None] - key_positions[:, None, :])  # (B, T, S)
    slopes = tf.constant(alibi_slopes(n_heads), tf.float32)
    return -slopes[None, :, None, None] * tf.cast(distance, tf.float32)[:, None]


def relative_bias(
    query_positions: tf.Tensor,
    key_positions: tf.Tensor,
    table: tf.Tensor,
    bidirectional: bool,
    max_distance: int = 128,
) -> tf.Tensor:
    """T5's learned bias by bucket of distance: (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S), table: (buckets, H). Source: Raffel et al. 2020, section 2.1.
    """
    buckets = tf.constant(relative_bucket_table(bidirectional, table.shape[0], max_distance))
    relative = key_positions[:, None, :] - query_positions[:, :, None]  # (B, T, S)
    relative = tf.clip_by_value(relative, -max_distance, max_distance) + max_distance
    return tf.einsum("btsh->bhts", tf.gather(table, tf.gather(buckets, relative)))


def _angles(positions, frequencies):
    # In float64: at position 10,000 a float32 angle is wrong in the third decimal.
    return tf.cast(positions, tf.float64)[..., None] * tf.cast(frequencies, tf.float64)
