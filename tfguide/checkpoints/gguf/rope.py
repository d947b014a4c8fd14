"""Llama 3's scaling of rotary frequencies as the tensor `rope_freqs.weight`: what divides the frequency of each pair.

llama.cpp keeps no numbers of the scaling itself: its converter computes the divisors and writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfguide.frequencies import rotary_frequencies
from tfguide.scalings import RopeScaling

TENSOR = "rope_freqs.weight"
_CLOSE = 1e-5  # relative; the tensor is float32, and its converter computes in it


def divisors(d_head: int, theta: float, scaling: RopeScaling | None) -> np.ndarray:
    """What divides the frequencies of the d / 2 pairs, float64."""
    return rotary_frequencies(d_head, theta) / rotary_frequencies(d_head, theta, scaling)


def scaling_of(found: np.ndarray, theta: float, trained: int | None = None) -> RopeScaling | None:
    """The scaling that gives these d / 2 divisors; None where all of them are 1.

    trained: the length of the contexts of training, where it is known. The divisors do not change when that length and
    both factors are multiplied by one number, so the scaling may differ from the original one, but not its frequencies.
    Raises ValueError for divisors that no scaling of this kind gives.
    """
    found = np.asarray(found, np.float64)
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(f"the divisors of the frequencies must be finite numbers above 0, got {found}")
    if np.allclose(found, 1.0, rtol=_CLOSE):
        return None
    d_head = 2 * len(found)
    for scaling in _candidates(found, rotary_frequencies(d_head, theta), trained):
        if np.allclose(divisors(d_head, theta, scaling), found, rtol=_CLOSE):
            return scaling
    raise ValueError(f"expected divisors of the frequencies ({TENSOR}) as Llama 3's scaling gives them, got {found}")


def _candidates(found, frequencies, trained) -> Iterator[RopeScaling]:
    """Scalings that may be the one: those with the factors 1 and 4 that every published model has, then a line.

    Between the pairs that stay and those that get the whole factor, the kept share is a line over the turns that a pair
    makes within the trained length: kept = (trained * turns - low) / (high - low).
    """
    factor = _rounded(found.max())
    for length in (trained, 8192):
        if length:
            yield RopeScaling(factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=length)
    kept = (1.0 / found - 1.0 / factor) / (1.0 - 1.0 / factor) if factor != 1.0 else np.zeros_like(found)
    slope, start = _line(frequencies / (2.0 * np.pi), kept)  # of turns for each position
    if slope > 0.0 > start:
        span = -1.0 / start  # high - low, where low is 1
        length, high = max(1, round(slope * span)), _rounded(1.0 + span, 3)
        yield RopeScaling(factor=factor, low_freq_factor=1.0, high_freq_factor=high, original_max_positions=length)
        length = 1 << 30  # any length will do, and a long one loses nothing when it is rounded to an integer
        low = length / (slope * span)
        yield RopeScaling(
            factor=factor, low_freq_factor=low, high_freq_factor=low * (1.0 + span), original_max_positions=length
        )


def _line(turns, kept) -> tuple[float, float]:
    """Slope and start of the line through the kept shares between 0 and 1; with few of them, one of several lines."""
    slow, fast = kept < _CLOSE, kept > 1.0 - _CLOSE
    between = ~slow & ~fast
    if between.sum() > 1:
        slope, start = np.polyfit(turns[between], kept[between], 1)
        return float(slope), float(start)
    if between.any():  # high is 4 times low
        return float((kept[between][0] + 1.0 / 3.0) / turns[between][0]), -1.0 / 3.0
    if not slow.any():
        return 0.0, 0.0
    ratio = min(4.0, turns[fast].min() / turns[slow].max()) if fast.any() else 4.0
    return float(1.0 / (turns[slow].max() * (ratio - 1.0))), -1.0 / (ratio - 1.0)


def _rounded(value, digits=4):
    """A number as it was most likely written: rounded where that makes no difference to a float32."""
    short = round(float(value), digits)
    return short if abs(short - value) <= _CLOSE * value else float(value)
