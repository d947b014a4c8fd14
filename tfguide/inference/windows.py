"""Windows over a long text."""

from __future__ import annotations

from collections.abc import Iterator

from tfguide import checks


def windows_of(n_tokens: int, window: int, stride: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Windows (start, stop) that cover a text, each with the first token that counts in it.

    Every token but the first counts in exactly one window. Raises ValueError, at once, for sizes that do not fit.

    >>> list(windows_of(7, 4, 2))
    [(0, 4, 1), (2, 6, 4), (4, 7, 6)]
    """
    checks.count("window", window, least=2)
    stride = window // 2 if stride is None else stride
    checks.count("stride", stride)
    if stride >= window:
        raise ValueError(
            f"stride must be below window={window}, so that every token has something before it, got {stride}"
        )
    if n_tokens < 2:
        raise ValueError(f"a text must have at least 2 tokens, got {n_tokens}")
    return _windows(n_tokens, window, stride)


def _windows(n_tokens, window, stride):
    start, first = 0, 1
    while first < n_tokens:
        stop = min(start + window, n_tokens)
        yield start, stop, first
        start, first = start + stride, stop
