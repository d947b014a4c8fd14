"""The numbers behind the position schemes: framework-free, float64, one source for all three implementations."""

from __future__ import annotations

import math

import numpy as np

from tfguide.scalings import DynamicScaling, LinearScaling, LongRopeScaling, RopeScaling, Scaling, YarnScaling


def sinusoidal_frequencies(d_model: int) -> np.ndarray:
    """The D / 2 angular frequencies of the sinusoidal encoding, in radians per position: `10000 ** (-2 i / D)`.

    Raises ValueError for an odd `d_model`. Source: Vaswani et al. 2017, section 3.5.
    """
    return rotary_frequencies(d_model)


def rotary_frequencies(
    d_rotary: int, theta: float = 10_000.0, scaling: Scaling | None = None, length: int | np.ndarray = 0
) -> np.ndarray:
    """The d / 2 angular frequencies of rotary positions, in radians per position: `theta ** (-2 i / d)`.

    d_rotary: d, how many features of a head are rotated. length: of the text, for a scaling that depends on it (see
    `scaled_by_length`); an array (...) gives frequencies (..., d / 2).
    Raises ValueError for an odd `d_rotary`. Source: Su et al. 2021, equation 15; `scaling`: see its class.
    """
    if d_rotary % 2:
        raise ValueError(f"positions are encoded in pairs of features: expected an even size, got {d_rotary}")
    frequencies = theta ** (-np.arange(0, d_rotary, 2, dtype=np.float64) / d_rotary)  # (d / 2,)
    if scaled_by_length(scaling):
        return _by_length(frequencies, scaling, np.asarray(length))
    if isinstance(scaling, LinearScaling):
        return frequencies / scaling.factor
    if isinstance(scaling, YarnScaling):
        kept = _kept_by_yarn(d_rotary, theta, scaling)
    elif isinstance(scaling, RopeScaling):
        turns = scaling.original_max_positions * frequencies / (2 * math.pi)  # full turns within the trained context
        kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        kept = np.clip(kept, 0.0, 1.0)
    else:
        return frequencies
    # kept 1: a fast pair keeps its frequency, 0: a slow pair is divided by the factor
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def scaled_by_length(scaling: Scaling | None) -> bool:
    """Whether the frequencies of a scaling depend on the length of the text, as DynamicScaling's and LongRopeScaling's.

    A text that is read at once has the frequencies of its length at all of its positions. A cache keeps keys as they
    were rotated, so they cannot change when the text grows: a row's prompt, in one call or in the chunks of `prefill`,
    has the frequencies of the prompt's length, and each later position those of the text that ends in it. So the
    results do not depend on how a text is split into calls, except for where its prompt ends; they are those of a full
    recomputation for every prompt up to the whole text, and under every split where all lengths, from the prompt's to
    the last, have the same frequencies: up to `original_max_positions`, and with LongRopeScaling beyond it too. This is
    what transformers computes in `generate` for one text; of a batch, it rotates all rows as the longest one, and here
    each row is as it is alone.
    """
    return isinstance(scaling, (DynamicScaling, LongRopeScaling))


def attention_factor(scaling: Scaling | None) -> float:
    """What multiplies the cosines and sines of rotary positions, and so the scores by its square: see YarnScaling."""
    if not isinstance(scaling, (YarnScaling, LongRopeScaling)):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1.0:
        return 1.0
    grows = math.log(scaling.factor)
    if isinstance(scaling, LongRopeScaling):
        return math.sqrt(1.0 + grows / math.log(scaling.original_max_positions))
    if scaling.mscale is None or scaling.mscale_all_dim is None:
        return 0.1 * grows + 1.0
    return (0.1 * scaling.mscale * grows + 1.0) / (0.1 * scaling.mscale_all_dim * grows + 1.0)


def _kept_by_yarn(d_rotary, theta, scaling):
    """The share of each pair's frequency that YaRN keeps: 1 for the fast pairs, 0 for the slow ones; (d / 2,)."""

    def pair(turns):  # the pair, in fractions, that turns so often within the trained context
        return d_rotary * math.log(scaling.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(scaling.beta_fast), pair(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d_rotary - 1)
    width = last - first or 0.001
    return 1.0 - np.clip((np.arange(d_rotary // 2) - first) / width, 0.0, 1.0)


def _by_length(frequencies, scaling, length):
    """The frequencies (..., d / 2) for texts of `length` (...)."""
    n, trained = length[..., None], scaling.original_max_positions
    if isinstance(scaling, LongRopeScaling):
        return frequencies / np.where(n > trained, scaling.long_factors, scaling.short_factors)
    growth = scaling.factor * np.maximum(n / trained, 1.0) - (scaling.factor - 1.0)
    return frequencies * growth ** dynamic_exponents(2 * len(frequencies))


def dynamic_exponents(d_rotary: int) -> np.ndarray:
    """By which powers of a text's growth DynamicScaling multiplies the d / 2 frequencies: `-2 i / (d - 2)`."""
    return -np.arange(0, d_rotary, 2, dtype=np.float64) / (d_rotary - 2)


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
