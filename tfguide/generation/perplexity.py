"""How well a model predicts a text, read in windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.choose import log_softmax
from tfguide.generation.verbs import Generator

_ROWS = 16  # of V numbers in float64 at a time: a whole window would take gigabytes


def perplexity(
    model: Generator,
    tokens: Sequence[int],
    window: int = 256,
    stride: int | None = None,
    cache_dtype: str | None = None,
) -> float:
    """exp of the mean negative log probability of each token of a text, given those before it in its window.

    tokens: (n,); window: the number of tokens read at once; stride: the step between windows, default: half a window.
    Every token but the first counts once, in the first window that contains it. Sums are in float64.
    cache_dtype: read each window into a cache of this type (see `generate`), whose rounding then counts; default: each
    window in one call without a cache.

    Raises TypeError for tokens that are not integers, ValueError for one outside the vocabulary (no id marks a token to
    ignore), fewer than 2 tokens, a window below 2, or a stride outside 1 to window - 1.
    """
    tokens = check_text_tokens(tokens, model.config.vocab_size)
    windows = windows_of(len(tokens), window, stride)
    cache = None if cache_dtype is None else model.new_cache(1, min(window, len(tokens)) - 1, cache_dtype)
    total = 0.0
    for start, stop, first in windows:
        if cache is not None:
            cache.rewind(0)
        logits = model.score(tokens[None, start : stop - 1], cache)[0, first - start - 1 :]
        total -= text_log_probability(logits, tokens[first:stop])
    return math.exp(total / (len(tokens) - 1))


def windows_of(n_tokens: int, window: int, stride: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Windows (start, stop) that cover a text, each with the first token counted in it.

    Every token but the first counts in exactly one window. Raises ValueError, at the call, for sizes that do not fit.

    >>> list(windows_of(7, 4, 2))
    [(0, 4, 1), (2, 6, 4), (4, 7, 6)]
    """
    window = check_count("window", window, least=2)
    stride = check_count("stride", window // 2 if stride is None else stride)
    if stride >= window:
        raise ValueError(
            f"stride must be below window={window}, so that every token has something before it, got {stride}"
        )
    if n_tokens < 2:
        raise ValueError(f"a text must have at least 2 tokens, got {n_tokens}")
    return _windows(n_tokens, window, stride)


def text_log_probability(logits: np.ndarray, tokens: np.ndarray) -> float:
    """The sum of the log probabilities of tokens (n,) under logits (n, V), in float64."""
    total = 0.0
    for start in range(0, len(tokens), _ROWS):
        rows = log_softmax(logits[start : start + _ROWS])
        total += float(np.take_along_axis(rows, tokens[start : start + _ROWS, None], axis=1).sum())
    return total


def _windows(n_tokens, window, stride):
    start, first = 0, 1
    while first < n_tokens:
        stop = min(start + window, n_tokens)
        yield start, stop, first
        start, first = start + stride, stop
