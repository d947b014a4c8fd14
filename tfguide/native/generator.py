"""The part of a fast decoder without tensors: its steps, its head and its `decode`, on NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.frequencies import scaled_by_length
from tfguide.generation.caching import DenseCache
from tfguide.generation.checks import check_row_tokens, check_step
from tfguide.generation.paged import PagedCache
from tfguide.generation.verbs import Generator
from tfguide.native.abi import MAX_ROWS
from tfguide.native.cache import NativeCache
from tfguide.native.decoder import NativeDecoder
from tfguide.native.linear import Matrix, multiply
from tfguide.native.tensors import dtype_of, locate

HEAD_ROWS = 16  # more hidden states are multiplied by the framework: it is as fast, and records gradients


class NativeGenerator(Generator):
    """A model whose steps are computed by the C++ kernels; see `FastDecoder` of each framework.

    embedding, matrices, vectors: as in `NativeDecoder`. Without its own matrix, the head is the embedding.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Matrix,
        matrices: Mapping[str, Matrix],
        vectors: Mapping[str, np.ndarray],
        threads: int,
    ):
        self.config, self.threads = config, threads
        self.head = matrices.get("head", embedding)
        self._decoder = NativeDecoder(config, embedding, matrices, vectors, threads)

    def __call__(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """Tokens (B, T) to logits (B, T, V), as the model's call."""
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def decode(self, tokens: Any, cache: DenseCache, experts_read: np.ndarray | None = None) -> np.ndarray:
        """Read one more token of each row, (B,), into the cache; the logits (B, V) after it, a float32 array.

        No framework code runs between the kernels: streaming the weights evicts that code from the processor's caches,
        so that each call would have to reload it.

        experts_read: (L,), int64, the caller's: to it the kernels add how many experts of each layer they read, the
        shared ones not counted. Raises ValueError if the cache is full, or empty, and for experts that cannot be
        counted.
        """
        tokens = np.asarray(tokens)
        if not self.reads(cache, tokens.size):
            if experts_read is not None:
                raise ValueError(f"experts are counted by the kernels, which do not read {tokens.size} tokens here")
            return super().decode(tokens, cache)
        check_step(self.config, cache, tokens)
        hidden = self.run_kernels(tokens[:, None], cache, check_counter(self.config, experts_read))
        cache.advance(1)
        return self.multiply_head(hidden[:, 0])

    def reads(self, cache: DenseCache | None, n_tokens: int) -> bool:
        """Whether the kernels should read this many new tokens, counted over all rows, into this cache."""
        return self.shares(cache) and self._decoder.takes(n_tokens)

    def shares(self, cache: DenseCache | None) -> bool:
        """Whether the kernels can read and write this cache."""
        return cache is not None and (cache.dense or cache.paged) and cache.storage.addressable

    def run_kernels(self, tokens: np.ndarray, cache: DenseCache, experts_read: np.ndarray | None = None) -> np.ndarray:
        """The hidden states (B, T, D), float32, of checked tokens (B, T) that are not yet counted as filled."""
        lengths = None
        if scaled_by_length(self.config.rope_scaling):
            lengths = cache.text_lengths(cache.lengths[:, None] + np.arange(tokens.shape[1]))
        return self._decoder.step(tokens, cache.lengths, self._native(cache), lengths, experts_read)

    def run_valid(self, tokens: np.ndarray, valid: np.ndarray, cache: DenseCache) -> np.ndarray:
        """The hidden states (B, T, D), float32, of checked tokens (B, T), which are then counted.

        Those of padding are 0. Padding is not written to the cache: in a ring it would overwrite what the next token
        sees.
        """
        hidden = np.zeros((*tokens.shape, self.config.d_model), np.float32)
        hidden[valid] = self.read_rows(tokens[valid], valid.nonzero()[0], cache)
        return hidden

    def read_rows(
        self, tokens: np.ndarray, rows: np.ndarray, cache: DenseCache, experts_read: np.ndarray | None = None,
        many: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Read new tokens (n,) into the rows (n,) of a cache, each after the last one of its row: hidden states (n, D).

        A row may have any number of them, also none. experts_read: as in `decode`; of more than PASS_ROWS tokens, an
        expert counts in each pass that reads it. many: as in `NativeDecoder.step_rows`. Raises TypeError for tokens or
        rows that are not integers, ValueError for tokens or rows that do not exist, if a row has no room, for a cache
        that the kernels do not read, and as `decode` for what counts experts.
        """
        if not self.shares(cache):
            raise ValueError(f"the kernels read a dense or paged cache in main memory, got {type(cache).__name__}")
        tokens, rows = check_row_tokens(self.config, tokens, rows, cache)
        counts = np.bincount(rows, minlength=cache.batch_size)
        cache.check_room(counts)
        check_counter(self.config, experts_read)
        order = None
        if (rows[1:] < rows[:-1]).any():
            order = np.argsort(rows, kind="stable")  # those of one row together
            tokens, rows, many = tokens[order], rows[order], None if many is None else many[order]
        first = np.cumsum(counts) - counts
        places = (cache.lengths - first)[rows] + np.arange(len(rows))
        cache.begin(counts, only_empty=True)
        lengths = cache.text_lengths(places, rows) if scaled_by_length(self.config.rope_scaling) else None
        native = self._native(cache)
        hidden = self._decoder.step_rows(tokens, rows, places, native, lengths, experts_read, many)
        cache.advance(counts)
        if order is None:
            return hidden
        result = np.empty_like(hidden)
        result[order] = hidden
        return result

    def decode_rows(
        self, tokens: np.ndarray, rows: np.ndarray, cache: PagedCache, wanted: np.ndarray, prompts: np.ndarray
    ) -> np.ndarray:
        """As `Generator.decode_rows`: one call of the kernels for all rows."""
        if not self.shares(cache):
            return super().decode_rows(tokens, rows, cache, wanted, prompts)
        hidden = self.read_rows(tokens, rows, cache, many=prompts)[wanted]
        if len(hidden) <= MAX_ROWS:
            return self.multiply_head(hidden) if len(hidden) else np.empty((0, self.config.vocab_size), np.float32)
        with self.without_gradients():
            return self.as_array(self.logits(self.as_tensor(hidden)))

    def _native(self, cache):
        """The addresses of a cache.

        Looked up in every step, which takes microseconds: reordering a cache replaces its tensors, and a new cache of
        other sizes may reuse the addresses of a freed one.
        """
        if cache.paged and cache.native is not None:
            return cache.native
        tensors, names = cache.storage.tensors, self.config.cached  # keys and values, or rotated parts and latents
        keys, values = (tensors[name] for name in names)
        scales = tuple(tensors[f"{name}_scale"] for name in names) if f"{next(iter(names))}_scale" in tensors else None
        most = None if cache.ring is None else cache.max_length
        n = cache.n_blocks if cache.paged else cache.batch_size
        native = NativeCache.of(self.config, n, keys, values, locate, dtype_of(keys[0]), scales, most)
        if cache.paged:
            native = dataclasses.replace(native, tables=cache.tables)
            cache.at_addresses(native)
        return native

    def multiply_head(self, hidden: np.ndarray) -> np.ndarray:
        """The head: hidden states (n, D) to logits (n, V), float32."""
        logits = multiply(self.head, hidden * np.float32(self.config.logit_scale), self.threads)
        if self.config.logit_softcap is not None:
            cap = np.float32(self.config.logit_softcap)
            np.multiply(np.tanh(logits / cap, out=logits), cap, out=logits)
        return logits


def check_counter(config: ModelConfig, experts_read: np.ndarray | None) -> np.ndarray | None:
    """What counts the experts that each layer reads, or None. Raises TypeError or ValueError for another array."""
    if experts_read is None:
        return None
    if not isinstance(experts_read, np.ndarray):
        raise TypeError(f"experts_read must be an array, got {type(experts_read).__name__}")
    if experts_read.dtype != np.int64:
        raise TypeError(f"experts_read must be int64, got {experts_read.dtype}")
    if experts_read.shape != (config.n_layers,):
        raise ValueError(f"experts_read must be (L,) = ({config.n_layers},), got {experts_read.shape}")
    if not (experts_read.flags.c_contiguous and experts_read.flags.writeable):
        raise ValueError("experts_read must be contiguous and writable")
    return experts_read
