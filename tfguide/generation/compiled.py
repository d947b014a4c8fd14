"""Checks and results of compiled generation, in either framework."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np


def check_fits(decoder, n_rows: int, needed: int) -> None:
    """Raises ValueError if a batch has another size than the compiled one, or does not fit into the cache."""
    if n_rows != decoder.batch_size:
        raise ValueError(f"compiled for {decoder.batch_size} prompts at a time, got {n_rows}")
    if needed > decoder.max_length:
        raise ValueError(f"compiled for {decoder.max_length} positions, the generation needs {needed}")


def check_compiled_cache(decoder, cache) -> None:
    """Raises ValueError for a cache of another size than the compiled one."""
    wanted, got = (decoder.batch_size, decoder.max_length), (cache.batch_size, cache.max_length)
    if wanted != got or not cache.dense:
        raise ValueError(
            f"compiled for a KVCache of {wanted[0]} rows and {wanted[1]} positions, got a {type(cache).__name__} of "
            f"{got[0]} and {got[1]}: use new_cache"
        )


def as_rows(tokens: np.ndarray, stops: frozenset[int]) -> list[list[int]]:
    """Chosen tokens (B, n) as lists that end with the first stop token."""
    rows = []
    for row in tokens.tolist():
        end = next((i for i, token in enumerate(row) if token in stops), len(row) - 1)
        rows.append(row[: end + 1])
    return rows


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """If stderr is a terminal, print what the block does and count the seconds while it runs."""
    if not sys.stderr.isatty():
        yield
        return
    start, done = time.perf_counter(), threading.Event()

    def show():
        while True:
            print(f"\r{what}: {time.perf_counter() - start:.0f} s", end="", file=sys.stderr, flush=True)
            if done.wait(1):
                return

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print(f"\r{what}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
