"""`tfguide bench caches`: what each type of cache costs in quality, and what it takes in bytes and seconds."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.dtypes import CACHE_DTYPES
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.perplexity import token_log_probabilities
from tfguide.tasks.text import topics
from tfguide.text import read_tokenizer

CHUNK = 32  # tokens read at a time: those before them are read from the cache


def measure_caches(
    model: Any, tokens: Sequence[int], cache_dtypes: Sequence[str] = CACHE_DTYPES, n_new: int = 5
) -> list[dict]:
    """A row for each type of cache: the perplexity of a text read through it, its bytes, and the seconds of a step.

    tokens: (n,); the first n - 1 are read, 32 at a time, with all before them in the cache, and the last n - 1 count.
    "over": how much larger the perplexity is than that of the first type, a share. n_new: the steps after the text
    whose median is the time. Raises ValueError for fewer than 2 tokens, and as `score`.
    """
    tokens, n_new = check_text_tokens(tokens, model.config.vocab_size), check_count("n_new", n_new)
    n = check_count("the number of tokens", len(tokens), least=2) - 1
    rows: list[dict] = []
    for kind in cache_dtypes:
        cache = model.new_cache(1, n + n_new, kind)
        start = time.perf_counter()
        losses = losses_through(model, cache, tokens)
        read = time.perf_counter()
        seconds = [_seconds_of_step(model, tokens[-1:], cache) for _ in range(n_new)]
        perplexity = math.exp(losses.mean())
        rows.append({
            "cache_dtype": kind, "positions": n, "perplexity": perplexity,
            "over": perplexity / rows[0]["perplexity"] - 1 if rows else 0.0, "bytes": cache.nbytes,
            "read_seconds": read - start, "step_seconds": statistics.median(seconds),
        })  # fmt: skip
    return rows


def losses_through(model: Any, cache: Any, tokens: np.ndarray) -> np.ndarray:
    """The negative log probability of each of the tokens (n,) but the first, (n - 1,), all before it in the cache.

    The first n - 1 are read into the cache, CHUNK at a time. Raises ValueError as `score`.
    """
    read = [(at, min(at + CHUNK, len(tokens) - 1)) for at in range(0, len(tokens) - 1, CHUNK)]
    parts = [
        token_log_probabilities(model.score(tokens[None, at:end], cache)[0], tokens[at + 1 : end + 1])
        for at, end in read
    ]
    return -np.concatenate(parts)


def read_documentation(path: str | os.PathLike, positions: int) -> list[int]:
    """The first `positions` + 1 tokens of Python's documentation, by the tokenizer of a checkpoint."""
    text = topics()[: 16 * positions]  # more than enough: a token has four letters on average
    return read_tokenizer(path).encode(text).ids[: positions + 1]


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'cache':10}{'perplexity':>12}{'':>9}{'MB':>8}{'ms a step':>11}"]
    for row in rows:
        shown = (
            f"{row['perplexity']:12.4f}{row['over']:+9.2%}{row['bytes'] / 1e6:8.1f}{row['step_seconds'] * 1e3:11.1f}"
        )
        lines.append(f"{row['cache_dtype']:10}{shown}")
    return "\n".join(lines)


def _seconds_of_step(model, token, cache):
    start = time.perf_counter()
    model.decode(np.asarray(token), cache)
    return time.perf_counter() - start
