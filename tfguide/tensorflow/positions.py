"""Sinusoidal, rotary, ALiBi and relative positions (learned positions are a table in the embeddings)."""

from __future__ import annotations

import tensorflow as tf

from tfguide.frequencies import alibi_slopes, relative_bucket_table, sinusoidal_frequencies


def sinusoidal_positions(positions: tf.Tensor, d_model: int) -> tf.Tensor:
    """The sinusoidal encoding of `positions` (B, T): (B, T, D), added to the embeddings.

    Feature 2i is `sin(position * 10000 ** (-2i / D))`, feature 2i + 1 its cosine.
    Raises ValueError for an odd D. Source: Vaswani et al. 2017, section 3.5.
    """
    angles = _angles(positions, sinusoidal_frequencies(d_model))  # (B, T, D / 2)
    pairs = tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1)
    return tf.cast(tf.reshape(pairs, tf.concat([tf.shape(angles)[:-1], [d_model]], axis=0)), tf.float32)


def rotary_angles(positions: tf.Tensor, frequencies: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The cosines and sines by which `rotate` turns the heads at `positions` (B, T): two tensors (B, T, d / 2)."""
    angles = _angles(positions, frequencies)
    return tf.cast(tf.cos(angles), tf.float32), tf.cast(tf.sin(angles), tf.float32)


def rotate(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor) -> tf.Tensor:
    """Turn each pair of features of the heads `x` (B, T, H, d) by its angle; (B, T, H, d).

    The pairs are (i, i + d/2), as in published Llama weights; the paper's (2i, 2i + 1) is the same up to the
    order of the features. cos, sin: (B, T, d / 2). Source: Su et al. 2021, equation 34.
    """
    dtype = x.dtype
    x = tf.cast(x, cos.dtype)
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]  # the same for every head
    first, second = tf.split(x, 2, axis=-1)
    return tf.cast(tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1), dtype)


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
