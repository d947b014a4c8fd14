"""Position schemes: sinusoidal, rotary, ALiBi and relative; learned positions are a table beside the embedding."""

from __future__ import annotations

import numpy as np

from tfguide.frequencies import alibi_slopes, relative_bucket_table, sinusoidal_frequencies


def sinusoidal_positions(positions: np.ndarray, d_model: int) -> np.ndarray:
    """The sinusoidal encoding of `positions` (B, T): (B, T, D), added to the embeddings.

    Feature 2i is `sin(position * 10000 ** (-2i / D))`, feature 2i + 1 its cosine.
    Raises ValueError for an odd D. Source: Vaswani et al. 2017, section 3.5.
    """
    angles = np.asarray(positions)[..., None] * sinusoidal_frequencies(d_model)  # (B, T, D / 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(*angles.shape[:-1], d_model)


def rotary_angles(positions: np.ndarray, frequencies: np.ndarray, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The cosines and sines by which `rotate` turns the heads at `positions` (B, T): two arrays (B, T, d / 2).

    frequencies: (d / 2,) or (B, T, d / 2). factor: multiplies both, see `attention_factor` of `tfguide.frequencies`.
    """
    angles = np.asarray(positions)[..., None] * np.asarray(frequencies)
    return factor * np.cos(angles), factor * np.sin(angles)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn each pair of features of the heads `x` (B, T, H, d) by its angle; (B, T, H, d).

    The pairs are (i, i + d/2), as published Llama weights have them; the paper's (2i, 2i + 1) is the same up to the
    order of the features. cos, sin: (B, T, d / 2); with fewer angles, r / 2, only the first r features are turned.
    Source: Su et al. 2021, equation 34.
    """
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]  # the same for every head
    half = cos.shape[-1]
    first, second, rest = np.split(x, [half, 2 * half], axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def alibi_bias(query_positions: np.ndarray, key_positions: np.ndarray, n_heads: int) -> np.ndarray:
    """ALiBi: the bias `-slope * distance` of the scores, with a slope for each head; (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S). Source: Press et al. 2022, section 3.
    """
    distance = np.abs(query_positions[:, :, None] - key_positions[:, None, :])  # (B, T, S)
    return -alibi_slopes(n_heads)[None, :, None, None] * distance[:, None]


def relative_bias(
    query_positions: np.ndarray,
    key_positions: np.ndarray,
    table: np.ndarray,
    bidirectional: bool,
    max_distance: int = 128,
) -> np.ndarray:
    """T5's learned bias by bucket of distance: (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S), table: (buckets, H). Source: Raffel et al. 2020, section 2.1.
    """
    buckets = relative_bucket_table(bidirectional, len(table), max_distance)
    relative = key_positions[:, None, :] - query_positions[:, :, None]  # (B, T, S)
    relative = np.clip(relative, -max_distance, max_distance) + max_distance
    return np.einsum("btsh->bhts", table[buckets[relative]])
