"""Checks of what a caller asks of a generating model and its cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.checks.shapes import Shape, check_config, check_length, check_token_range
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.interfaces import Cache


def kept_lengths(wanted, filled: np.ndarray, window: int | None = None, n_sinks: int = 0) -> np.ndarray:
    """The lengths (B,) that a cache is rewound to, checked against its current lengths.

    Raises ValueError if a row would become longer or shorter than 0, or where a ring of `window` positions no longer
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


def check_storage(storage, config: ModelConfig, batch_size: int, slots: Sequence[int]) -> None:
    """Raises ValueError if the caller's storage does not have the size that a cache needs. slots: of each layer."""
    for name, shape in config.cached.items():
        got = [tuple(tensor.shape) for tensor in storage.tensors.get(name, ())]
        wanted = [(batch_size, n_slots, *shape) for n_slots in slots]
        if got != wanted:
            raise ValueError(
                f"the storage must have {config.n_layers} tensors {name!r} of shape "
                f"{' or '.join(map(str, dict.fromkeys(wanted)))}, got {sorted(set(got)) or 'none'}"
            )


def check_rings(kept: np.ndarray, filled: np.ndarray, longest: np.ndarray, window: int, slots: int) -> None:
    """Raises ValueError if rings of `slots` positions no longer hold what the next token of a row would see.

    kept, filled: (B,), the lengths to go back to and from; longest: (B,), the most that each row ever had.
    """
    for row, (new, old, most) in enumerate(zip(kept.tolist(), filled.tolist(), longest.tolist(), strict=True)):
        if new < old and new > 0 and max(new - window + 1, 0) < most - slots:
            raise ValueError(
                f"row {row} cannot go back from {old} to {new}: a layer with a window of {window} has room for {slots} "
                "positions, and has overwritten what the next token would see"
            )


def kept_tensors(tensors, name: str) -> list:
    """The tensors of each layer by their name. Raises ValueError if the cache keeps something else of a position."""
    if name not in tensors:
        raise ValueError(f"this cache keeps no {name!r} of a position, but {', '.join(tensors)}: see storage.tensors")
    return tensors[name]


def check_scales(cache) -> None:
    """Raises ValueError if the storage of an 8-bit cache has no scales."""
    if not all(f"{name}_scale" in cache.storage.tensors for name in cache.config.cached):
        raise ValueError(f"the storage of an 8-bit cache must be int8, got {cache.storage.dtype}")


def check_rows(rows, batch_size: int) -> np.ndarray:
    """The rows that a cache is reordered to, int64 (n,). Raises TypeError or ValueError."""
    rows = np.asarray(rows)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"rows must be integers, got {rows.dtype}")
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= batch_size:
        raise ValueError(f"rows must be (n,), each from 0 to {batch_size - 1}, got {rows.tolist()}")
    return rows.astype(np.int64)


def check_row_tokens(config: ModelConfig, tokens, rows, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """New tokens (n,) and the rows (n,) of the cache that they belong to, as arrays. Raises TypeError or ValueError."""
    tokens, rows = np.asarray(tokens), np.asarray(rows)
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    rows = check_rows(rows, cache.batch_size)
    if tokens.shape != rows.shape:
        raise ValueError(f"tokens and rows must have one shape, got {tokens.shape} and {rows.shape}")
    check_token_range("tokens", int(tokens.min()), int(tokens.max()), config.vocab_size)
    check_cached_call(config, cache.config, cache.batch_size, cache.batch_size, False)
    return tokens.astype(np.int64, copy=False), rows


def check_one_cache(cache: Cache | None, cache_dtype: str | None) -> None:
    """Raises ValueError if a caller gives a cache and also the type of a new one."""
    if cache is not None and cache_dtype is not None:
        raise ValueError(
            f"cache_dtype is the type of a new cache: expected cache or cache_dtype={cache_dtype!r}, got both"
        )


def check_given(config: ModelConfig, cache: Cache, batch_size: int, needed: int) -> None:
    """Raises ValueError if the caller's cache does not fit a generation."""
    if cache.config != config:
        raise ValueError("the cache was made for another configuration than the model's")
    if cache.batch_size != batch_size:
        raise ValueError(f"the cache has {cache.batch_size} rows, got {batch_size} prompts")
    if cache.lengths.max() > 0:
        raise ValueError("the cache must be empty: it holds positions already; cache.rewind(0) empties it")
    if cache.max_length is not None and cache.max_length < needed:
        raise ValueError(f"the cache has room for {cache.max_length} positions, the generation needs {needed}")


def check_step(config: ModelConfig, cache: Cache, tokens: np.ndarray) -> None:
    """All checks of a decoding step, on arrays: tokens (B,). Raises TypeError or ValueError."""
    check_decode(tokens.shape, cache.batch_size, int(cache.lengths.min()))
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    check_token_range("tokens", int(tokens.min()), int(tokens.max()), config.vocab_size)
    check_cached_call(config, cache.config, cache.batch_size, len(tokens), False)
    cache.check_room(1)


def check_sliding(config: ModelConfig, window: int, n_sinks: int) -> tuple[int, int]:
    """The sizes of a ring, checked. Raises ValueError for a ring that does not fit the model."""
    window, n_sinks = check_count("window", window), check_count("n_sinks", n_sinks, least=0)
    if config.sliding_window is not None and (config.sliding_window != window or n_sinks):
        raise ValueError(
            f"the model has sliding_window={config.sliding_window} of its own, got window={window}, n_sinks={n_sinks}"
        )
    return window, n_sinks


def check_positions_left(config: ModelConfig, filled: int, n_tokens: int) -> None:
    """Raises ValueError if new tokens would exceed the model's positions."""
    if config.max_positions is not None and filled + n_tokens > config.max_positions:
        raise ValueError(
            f"the model has max_positions={config.max_positions} positions, got {filled} filled and {n_tokens} new"
        )


def check_generation(model: ModelConfig, prompt_length: int, max_new_tokens: int) -> None:
    """Check that a model can generate, and that prompt and continuation fit into its positions. Raises ValueError."""
    if model.kind == "encoder":
        raise ValueError("an encoder has no head to generate from: expected kind 'decoder' or 'encoder-decoder'")
    if model.kind == "encoder-decoder":
        check_length("the prompt", prompt_length, model.max_positions)
        if model.decoder_start_token_id is None:
            raise ValueError("generation needs decoder_start_token_id in the configuration, got None")
        prompt_length = 1
    # The last token is returned but never read, so it needs no position.
    check_length("the prompt and its continuation", prompt_length + max_new_tokens - 1, model.max_positions)


def check_cache_sizes(model: ModelConfig, batch_size: int, max_length: int | None) -> tuple[int, int | None]:
    """The batch size and the length of a KV cache (None: any), checked. Raises TypeError or ValueError."""
    check_config(model)
    if model.kind == "encoder":
        raise ValueError("an encoder reads everything at once and has no KV cache; got kind 'encoder'")
    batch_size = check_count("batch_size", batch_size)
    if max_length is not None:
        max_length = check_count("max_length", max_length)
        check_length("the cache", max_length, model.max_positions)
    return batch_size, max_length


def check_room(filled: int, n_tokens: int, max_length: int) -> None:
    """Check that new tokens fit into a cache. Raises ValueError."""
    if filled + n_tokens > max_length:
        raise ValueError(f"the cache has room for {max_length} positions: {filled} are filled, {n_tokens} more came")


def check_cached_call(model: ModelConfig, cached: ModelConfig, cached_batch: int, batch: int, has_record: bool) -> None:
    """Check that a cache was made for this model and this batch. Raises ValueError."""
    if model != cached:
        raise ValueError("the cache was made for another configuration than the model's")
    if batch != cached_batch:
        raise ValueError(f"the cache holds {cached_batch} rows, got {batch} rows of tokens")
    if has_record:
        raise ValueError("attention maps are computed without a cache: expected record=None or cache=None")


def check_padding_at_end(is_at_end: bool) -> None:
    """Check that padding comes after the real tokens of a row, as a cache requires. Raises ValueError."""
    if not is_at_end:
        raise ValueError("with a cache, padding stands at the end of a row: got a real token after padding")


def check_prefill(model: ModelConfig, has_source: bool) -> None:
    """Check that a model generates, and has a source if and only if it reads one. Raises ValueError."""
    if model.kind == "encoder":
        raise ValueError("an encoder has no cache to fill: expected kind 'decoder' or 'encoder-decoder'")
    if has_source != (model.kind == "encoder-decoder"):
        expected = "a source" if model.kind == "encoder-decoder" else "no source"
        raise ValueError(f"a model of kind {model.kind!r} takes {expected}, got {'one' if has_source else 'none'}")


def check_text_tokens(tokens: Sequence[int] | np.ndarray, vocab_size: int) -> np.ndarray:
    """The tokens of one text as int64 (n,), checked: TypeError if they are not integers, else ValueError."""
    array = np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens must be (n,), one axis, got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"tokens must be integers, got {array.dtype}")
    if array.size:
        check_token_range("tokens", int(array.min()), int(array.max()), vocab_size)
    return array.astype(np.int64)


def check_lengths(values: Sequence[int] | np.ndarray | None, batch: int, n_tokens: int) -> np.ndarray:
    """The lengths of padded rows as int64 (B,), checked; None: all rows are full."""
    if values is None:
        return np.full(batch, n_tokens, np.int64)
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got {array.dtype}")
    if array.shape != (batch,):
        raise ValueError(f"lengths must be one number for each of {batch} rows, got shape {array.shape}")
    if array.min() < 1 or array.max() > n_tokens:
        raise ValueError(f"lengths must lie between 1 and {n_tokens}, got {array.tolist()}")
    return array.astype(np.int64)


def check_decode(shape: Shape, batch: int, filled: int) -> None:
    """Check the tokens of one decoding step, (B,), and that a prompt came before them. Raises ValueError."""
    if len(shape) != 1:
        raise ValueError(f"decode takes one token of each row, (B,), got shape {shape}")
    if shape[0] not in (None, batch):
        raise ValueError(f"the cache holds {batch} rows, got {shape[0]} tokens")
    if filled < 1:
        raise ValueError("the cache is empty: prefill a prompt before decode")
