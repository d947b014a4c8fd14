"""Windows over a long text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation.beam import log_softmax

_ROWS = 16  # of V numbers in float64 at a time: a window of all would be gigabytes


def windows_of(n_tokens: int, window: int, stride: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Windows (start, stop) that cover a text, each with the first token that counts in it.

    Every token but the first counts in exactly one window. Raises ValueError, at once, for sizes that do not fit.

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
