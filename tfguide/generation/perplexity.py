"""How well a model predicts a text, read in windows."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.choose import NAN
from tfguide.generation.verbs import Generator

_ROWS = 16  # of V numbers at a time: those of a whole window do not fit into the processor's cache
# Windows of one length are the rows of a batch, so that weights are unpacked once for all of them.
_TOKENS = 1024  # of a batch: limits the memory of activations
_COUNTED = 256  # of a batch: limits the memory of logits


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
    window in one call without a cache. Where stderr is a terminal, a line there shows how many tokens are done.

    Raises TypeError for tokens that are not integers, ValueError for one outside the vocabulary (no id marks a token to
    ignore), fewer than 2 tokens, a window below 2, a stride outside 1 to window - 1, or a logit that is NaN.
    """
    tokens = check_text_tokens(tokens, model.config.vocab_size)
    total, done = 0.0, 1
    for batch in _batches(windows_of(len(tokens), window, stride)):
        total -= _batch_log_probability(model, tokens, batch, cache_dtype)
        done += sum(stop - first for _, stop, first in batch)
        _show(done, len(tokens))
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
    """The sum of the log probabilities of tokens (n,) under logits (n, V); sums are in float64.

    Raises ValueError if a logit is NaN.
    """
    return sum((float(some.sum()) for some in _log_probabilities(logits, tokens)), 0.0)


def token_log_probabilities(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The log probability of each token (n,) under its logits (n, V), float64 (n,). Raises ValueError if one is NaN."""
    return np.concatenate([np.empty(0), *_log_probabilities(logits, tokens)])


def _log_probabilities(logits, tokens):
    """Those of the tokens, some rows at a time."""
    for start in range(0, len(tokens), _ROWS):
        rows = np.asarray(logits[start : start + _ROWS])
        chosen = np.take_along_axis(rows, tokens[start : start + _ROWS, None], axis=1)[:, 0]
        tops = rows.max(axis=1)  # of a row with NaN it is NaN
        if np.isnan(tops).any():
            raise ValueError(NAN)
        masses = np.exp(rows - tops[:, None]).sum(axis=1, dtype=np.float64)
        yield chosen.astype(np.float64) - tops - np.log(masses)


def _batch_log_probability(model, tokens, batch, cache_dtype):
    """The log probability of the tokens counted in windows of equal sizes. The logits are freed before the next."""
    read = np.stack([tokens[start : stop - 1] for start, stop, _ in batch])
    cache = None if cache_dtype is None else model.new_cache(*read.shape, cache_dtype)
    _, stop, first = batch[0]
    logits = model.score(read, cache, stop - first)
    return sum(text_log_probability(row, tokens[at:end]) for row, (_, end, at) in zip(logits, batch, strict=True))


def _batches(windows):
    """Windows that follow each other and have the same number of tokens, read and counted, in groups."""
    group = []
    for window in windows:
        start, stop, first = window
        if group:
            begin, end, counted = group[0]
            alike = (stop - start, stop - first) == (end - begin, end - counted)
            rows = len(group) + 1
            if not alike or rows * (stop - start) > _TOKENS or rows * (stop - first) > _COUNTED:
                yield group
                group = []
        group.append(window)
    yield group


def _show(done, n_tokens):
    """If stderr is a terminal, write how many tokens are done over the line before."""
    if sys.stderr.isatty():
        filled = 30 * done // n_tokens
        bar = "#" * filled + "." * (30 - filled)
        print(f"\rperplexity [{bar}] {done} of {n_tokens} tokens", end="", file=sys.stderr, flush=True)
        if done == n_tokens:
            print(file=sys.stderr)


def _windows(n_tokens, window, stride):
    start, first = 0, 1
    while first < n_tokens:
        stop = min(start + window, n_tokens)
        yield start, stop, first
        start, first = start + stride, stop
