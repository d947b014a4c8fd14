"""Checks and results of compiled generation, in either framework."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tfguide.generation.caching import DenseCache
from tfguide.generation.checks import check_cache_sizes, check_step
from tfguide.generation.generate import generate
from tfguide.generation.verbs import Generator


class CompiledGenerator(Generator):
    """The part of a compiled decoder that holds no tensors: its sizes, its checks, and what it leaves to the model.

    A subclass defines `new_cache` and `run_step`. Raises ValueError for sizes below 1.
    """

    def __init__(self, model: Any, max_length: int, batch_size: int):
        self.batch_size, self.max_length = check_cache_sizes(model.config, batch_size, max_length)
        if model.block_types:  # a compiler reads tensors, not blocks of a file
            model = model.with_weights(model.config, model.to_weights())
        self.model, self.config, self.quantization = model, model.config, model.quantization
        self.has_small_weights = model.has_small_weights
        self._announced: set[str] = set()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int = 64,
        stop_tokens: Sequence[int] | int | None = None,
        cache_dtype: str | None = None,
    ) -> list[list[int]]:
        """Continue each of `batch_size` prompts greedily: the new tokens of each row, as `generate` returns them.

        cache_dtype: as in `new_cache`; each type is compiled once.
        Raises ValueError if prompt and continuation do not fit into `max_length`, and as `generate`.
        """
        return generate(self, prompts, max_new_tokens, stop_tokens, cache_dtype=cache_dtype)

    def decode(self, tokens: Any, cache: DenseCache) -> np.ndarray:
        """Read one more token of each row, (B,), into a cache of `new_cache`; the logits (B, V) as a float32 array.

        Raises ValueError if the cache is full, empty, or of another size.
        """
        tokens = np.asarray(tokens)
        check_step(self.config, cache, tokens)
        check_compiled_cache(self, cache)
        with self.without_gradients():  # all of it: a tensor created outside would recompile a step of PyTorch
            logits = self.as_array(self.run_step(tokens[:, None], cache))
        cache.advance(1)
        return logits

    def run_step(self, tokens: np.ndarray, cache: DenseCache) -> Any:
        """The compiled step: the logits (B, V) after tokens (B, 1), whose keys and values are written to the cache."""
        raise NotImplementedError

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked, computed by the model that is not compiled."""
        return self.model.read(tokens, cache, valid, token_types, record)

    def logits(self, hidden: Any) -> Any:
        """The head: hidden states (..., D) to logits (..., V)."""
        return self.model.logits(hidden)

    def announced(self, what: str) -> AbstractContextManager:
        """Around the first call of a program, `told` what is compiled; around others, nothing."""
        if what in self._announced:
            return contextlib.nullcontext()
        self._announced.add(what)
        return told(f"compiling a {what} of {self.config.n_layers} layers")


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
