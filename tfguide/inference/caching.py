"""What KV caches check, whatever tensors they are made of."""

from __future__ import annotations

import numpy as np

from tfguide import checks
from tfguide.config import ModelConfig


def kept_lengths(wanted, filled: np.ndarray, window: int | None = None, n_sinks: int = 0) -> np.ndarray:
    """The lengths (B,) that a cache is rewound to, checked against the lengths it has.

    Raises ValueError where a row would become longer or shorter than 0, or where a ring of `window` positions no longer
    holds what the next token of a row would see.
    """
    kept = np.broadcast_to(np.asarray(wanted), filled.shape).astype(filled.dtype)
    if np.asarray(wanted).dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got {np.asarray(wanted).dtype}")
    for row, (new, old) in enumerate(zip(kept.tolist(), filled.tolist(), strict=True)):
        if not 0 <= new <= old:
            raise ValueError(f"a cache is rewound to between 0 and what it holds: row {row} has {old}, got {new}")
        if window is not None and new < old and max(new - window + 1, n_sinks) < old - window:
            raise ValueError(
                f"row {row} cannot go back from {old} to {new}: the ring of {window} positions has overwritten what "
                "the next token would see"
            )
    return kept.copy()


def check_given(config: ModelConfig, cache, batch_size: int, needed: int) -> None:
    """Raises ValueError where a cache that the caller made does not serve a generation."""
    if cache.config != config:
        raise ValueError("the cache was made for another configuration than the model's")
    if cache.batch_size != batch_size:
        raise ValueError(f"the cache has {cache.batch_size} rows, got {batch_size} prompts")
    if int(np.max(np.asarray(cache.lengths))) > 0:
        raise ValueError("the cache must be empty: it holds positions already; cache.rewind(0) empties it")
    if cache.max_length is not None and cache.max_length < needed:
        raise ValueError(f"the cache has room for {cache.max_length} positions, the generation needs {needed}")


def check_step(config: ModelConfig, cache, tokens: np.ndarray, filled: np.ndarray) -> None:
    """All checks of a decoding step with a `KVCache`, on arrays: tokens (B,), filled positions of each row (B,)."""
    checks.decode(tokens.shape, cache.batch_size, int(filled.min()))
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    checks.token_range("tokens", int(tokens.min()), int(tokens.max()), config.vocab_size)
    checks.cached_call(config, cache.config, cache.batch_size, len(tokens), False)
    checks.room(int(filled.max()), 1, cache.max_length)


def check_sliding(config: ModelConfig, window: int, n_sinks: int) -> tuple[int, int]:
    """The sizes of a ring, checked. Raises ValueError for one that a model cannot be given."""
    window, n_sinks = checks.count("window", window), checks.count("n_sinks", n_sinks, least=0)
    if config.sliding_window is not None and (config.sliding_window != window or n_sinks):
        raise ValueError(
            f"the model has sliding_window={config.sliding_window} of its own, got window={window}, n_sinks={n_sinks}"
        )
    return window, n_sinks


def check_room(config: ModelConfig, filled: int, n_tokens: int) -> None:
    """Raises ValueError where new tokens would stand beyond the model's positions."""
    if config.max_positions is not None and filled + n_tokens > config.max_positions:
        raise ValueError(
            f"the model has max_positions={config.max_positions} positions, got {filled} filled and {n_tokens} new"
        )
