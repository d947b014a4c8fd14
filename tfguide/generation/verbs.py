"""The verbs of every model that generates: `prefill` reads prompts into a cache, `decode` adds a token to each row."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_decode, check_lengths, check_prefill, check_row_tokens
from tfguide.generation.interfaces import Cache
from tfguide.generation.paged import PagedCache, check_blocks, check_paged
from tfguide.generation.prompts import Chunk, group_rows, split_prompts


class Generator:
    """`prefill`, `decode` and `score`, by the methods that each framework and each kind of model defines.

    Tokens are integers in a list, an array or a tensor of the framework. Logits are returned as float32 NumPy arrays,
    since the choice of a token is written once for both frameworks.
    """

    config: ModelConfig

    def prefill(
        self,
        tokens: Any,
        cache: Cache,
        lengths: Sequence[int] | np.ndarray | None = None,
        source: Any = None,
        source_valid: Any = None,
        chunk_size: int | None = None,
    ) -> np.ndarray:
        """Read prompts (B, T) into a cache; the logits (B, V) after the last token of each row, a float32 array.

        lengths: (B,), the number of real tokens of each row, if rows are padded at their end.
        source, source_valid: the input of the encoder, (B, S); `tokens` is then the start of the target.
        chunk_size: read that many tokens at a time, which limits the memory of activations to that of a chunk.

        Raises ValueError if the prompt does not fit into the cache, or a length is not between 1 and T.
        """
        check_prefill(self.config, source is not None)
        tokens, _ = self.as_tokens(tokens)
        lengths = check_lengths(lengths, *tokens.shape)
        if chunk_size is not None:
            chunk_size = check_count("chunk_size", chunk_size)
        with self.without_gradients():
            if source is not None:
                source, source_valid = self.as_tokens(source, source_valid, "source")
                cache.remember(self.encode(source, source_valid), source_valid)
            cache.check_room(tokens.shape[1])  # before anything is written
            cache.begin(lengths)
            last = None
            for chunk in split_prompts(lengths, tokens.shape[1], chunk_size):
                valid = None if chunk.valid is None else self.as_tensor(chunk.valid)
                hidden = self.read(tokens[:, chunk.start : chunk.stop], cache, valid)
                last = self.last_hidden(hidden, chunk, last)
            return self.as_array(self.logits(last))

    def decode(self, tokens: Any, cache: Cache) -> np.ndarray:
        """Read one more token of each row, (B,), into the cache; the logits (B, V) after it, a float32 array.

        Raises ValueError if the cache is full, or empty: `prefill` comes first.
        """
        tokens = self.as_tensor(tokens)
        check_decode(tuple(tokens.shape), cache.batch_size, int(cache.lengths.min()))
        tokens, _ = self.as_tokens(tokens[:, None])
        with self.without_gradients():
            return self.as_array(self.logits(self.read(tokens, cache)[:, -1]))

    def score(self, tokens: Any, cache: Cache | None = None, last: int | None = None) -> np.ndarray:
        """The logits (B, n, V) after each of the `last` n tokens (B, T), default: all, a float32 array.

        The tokens follow those in the cache and are appended to it. Raises ValueError as the model's call.
        """
        tokens, _ = self.as_tokens(tokens)
        with self.without_gradients():
            hidden = self.read(tokens, cache)
            return self.as_array(self.logits(hidden if last is None else hidden[:, -last:]))

    def decode_rows(
        self, tokens: np.ndarray, rows: np.ndarray, cache: PagedCache, wanted: np.ndarray, prompts: np.ndarray
    ) -> np.ndarray:
        """Read new tokens (n,) into the rows (n,) of a cache; the logits (m, V) after those that are `wanted`, float32.

        A row may have any number of tokens, which follow each other. wanted: (n,), boolean, m of them True. prompts:
        (n,), whether a token belongs to a prompt of several tokens: with 8-bit activations the kernels then compute the
        same for it to the last bit, whatever part of the prompt the call has.

        Rows with as many tokens as others are read together. Raises TypeError for tokens or rows that are not integers,
        ValueError for tokens or rows that do not exist, and if a row has no room.
        """
        tokens, rows = check_row_tokens(self.config, tokens, rows, cache)
        logits = np.empty((int(wanted.sum()), self.config.vocab_size), np.float32)
        at = np.cumsum(wanted) - 1
        for places in group_rows(rows, cache.batch_size):  # (B, T), indices of tokens
            part, some = cache.select(rows[places[:, 0]]), wanted[places]
            with self.without_gradients():
                hidden = self.read(self.as_tokens(tokens[places])[0], part)
                if some[:, :-1].any():
                    logits[at[places[some]]] = self.as_array(self.logits(hidden))[some]
                elif some.any():
                    chunk = Chunk(0, places.shape[1], None, np.full(len(places), places.shape[1] - 1), some[:, -1])
                    last = self.as_array(self.logits(self.last_hidden(hidden, chunk, None)))
                    logits[at[places[:, -1][some[:, -1]]]] = last[some[:, -1]]
            cache.take_lengths(rows[places[:, 0]], part)
        return logits

    def hidden(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits; arguments as in the call."""
        tokens, valid = self.as_tokens(tokens, valid)
        return self.read(tokens, cache, valid, self.as_token_types(tokens, token_types), record)

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> Cache:
        """An empty cache for the model, its device and its kernels: see each framework's."""
        raise NotImplementedError

    def new_paged_cache(
        self, batch_size: int, n_blocks: int, block_size: int = 16, max_length: int | None = None,
        cache_dtype: str | None = None,
    ) -> PagedCache:  # fmt: skip
        """An empty `PagedCache` for the model: `batch_size` rows of up to `max_length` positions share `n_blocks`.

        max_length: default: the model's `max_positions`. cache_dtype: as in `new_cache`, but not "int4".
        Raises ValueError as `PagedCache`, and for a model without `max_positions` if there is no max_length.
        """
        batch_size, max_length = check_paged(self.config, batch_size, max_length)
        storage = self.new_storage(*check_blocks(n_blocks, block_size), cache_dtype)
        return PagedCache(self.config, batch_size, max_length, n_blocks, block_size, storage)

    def new_storage(self, batch_size: int, n_slots: int, cache_dtype: str | None = None) -> Any:
        """The tensors of a cache with `n_slots` in every layer, where the model can use them."""
        raise NotImplementedError

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked: the tokens follow those in the cache, and are added to it."""
        raise NotImplementedError

    def logits(self, hidden: Any) -> Any:
        """The head: hidden states (..., D) to logits (..., V)."""
        raise NotImplementedError

    def as_tokens(self, tokens: Any, valid: Any = None, name: str = "tokens") -> tuple[Any, Any]:
        """Token ids (B, T) and their padding mask as tensors. Raises TypeError or ValueError."""
        raise NotImplementedError

    def as_token_types(self, tokens: Any, token_types: Any) -> Any:
        """Token types (B, T) of the tokens as a tensor; None stays None. Raises TypeError or ValueError."""
        raise NotImplementedError

    def as_tensor(self, values: Any) -> Any:
        """A tensor, an array or a list as a tensor beside the weights."""
        raise NotImplementedError

    def last_hidden(self, hidden: Any, chunk: Chunk, before: Any) -> Any:
        """The hidden state (B, D) of each row's last token: from this chunk if it ends in it, else from `before`."""
        raise NotImplementedError

    def as_array(self, tensor: Any) -> np.ndarray:
        """A tensor as a float32 array in main memory."""
        raise NotImplementedError

    def without_gradients(self) -> AbstractContextManager:
        """Compute without recording gradients within a block."""
        raise NotImplementedError
