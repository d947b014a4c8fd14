"""`tfguide bench caches`: what each type of cache costs in quality, and what it takes in bytes and seconds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.dtypes import CACHE_DTYPES
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.perplexity import text_log_probability

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
        start, total = time.perf_counter(), 0.0
        for at in range(0, n, CHUNK):
            end = min(at + CHUNK, n)
            total -= text_log_probability(model.score(tokens[None, at:end], cache)[0], tokens[at + 1 : end + 1])
        read = time.perf_counter()
        seconds = [_seconds_of_step(model, tokens[-1:], cache) for _ in range(n_new)]
        perplexity = math.exp(total / n)
        rows.append({
            "cache_dtype": kind, "positions": n, "perplexity": perplexity,
            "over": perplexity / rows[0]["perplexity"] - 1 if rows else 0.0, "bytes": cache.nbytes,
            "read_seconds": read - start, "step_seconds": statistics.median(seconds),
        })  # fmt: skip
    return rows


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
