"""The numbers behind the position schemes: framework-free, float64, one source for all three implementations."""

from __future__ import annotations

import math

import numpy as np

from tfguide.config import RopeScaling


def sinusoidal_frequencies(d_model: int) -> np.ndarray:
    """The D / 2 angular frequencies of the sinusoidal encoding, in radians per position: `10000 ** (-2 i / D)`.

    Raises ValueError for an odd `d_model`. Source: Vaswani et al. 2017, section 3.5.
    """
    return rotary_frequencies(d_model)


def rotary_frequencies(d_head: int, theta: float = 10_000.0, scaling: RopeScaling | None = None) -> np.ndarray:
    """The d / 2 angular frequencies of rotary positions, in radians per position: `theta ** (-2 i / d)`.

    Raises ValueError for an odd `d_head`. Source: Su et al. 2021, equation 15; `scaling`: see `RopeScaling`.
    """
    if d_head % 2:
        raise ValueError(f"positions are encoded in pairs of features: expected an even size, got {d_head}")
    frequencies = theta ** (-np.arange(0, d_head, 2, dtype=np.float64) / d_head)  # (d / 2,)
    if scaling is None:
        return frequencies
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # full turns within the trained context
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = np.clip(kept, 0.0, 1.0)  # 1: a fast pair keeps its frequency, 0: a slow pair is divided by the factor
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def alibi_slopes(n_heads: int) -> np.ndarray:
    """The H slopes of ALiBi: a geometric sequence from `2 ** (-8 / H)` where H is a power of two.

    For another H the slopes of the next smaller power of two come first, then every second one of twice that power.
    Source: Press et al. 2022, section 3, and its published code.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
    more = 2.0 ** (-4.0 / power * np.arange(1, 2 * (n_heads - power), 2))
    return np.concatenate([slopes, more])  # (H,)


def relative_bucket_table(bidirectional: bool, n_buckets: int = 32, max_distance: int = 128) -> np.ndarray:
    """T5's bucket for every relative position from `-max_distance` to `max_distance` (key minus query).

    Entry `distance + max_distance` is the bucket, an int64; distances beyond the ends share the bucket of the end.
    Near positions have a bucket each, farther ones share logarithmically wider buckets. With `bidirectional`, keys
    after the query use the second half of the buckets; without, they fall into bucket 0.
    Source: Raffel et al. 2020, section 2.1.
    """
    relative = np.arange(-max_distance, max_distance + 1)
    if bidirectional:
        n_buckets //= 2
        offset = np.where(relative > 0, n_buckets, 0)
        distance = np.abs(relative)
    else:
        offset = np.zeros_like(relative)
        distance = np.maximum(-relative, 0)
    exact = n_buckets // 2
    # In float32, like every published T5: at a boundary of two buckets the rounding decides.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    ratio /= np.float32(math.log(max_distance / exact))
    far = exact + (ratio * np.float32(n_buckets - exact)).astype(np.int64)
    return offset + np.where(distance < exact, distance, np.minimum(far, n_buckets - 1))  # (2 max_distance + 1,)
