"""A decoder of the C++ kernels alone: the verbs of every model on NumPy arrays, without a framework."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfguide.checks.shapes import check_token_range, check_token_types, check_tokens, check_valid
from tfguide.compress.quantization import Quantization
from tfguide.config import ModelConfig
from tfguide.dtypes import choose_cache_dtype
from tfguide.generation.caching import DenseCache
from tfguide.generation.checks import check_cache_sizes, check_cached_call, check_padding_at_end
from tfguide.generation.paged import check_paged_dtype
from tfguide.generation.prompts import Chunk
from tfguide.generation.rings import layer_slots
from tfguide.native.abi import CACHE_TYPES
from tfguide.native.generator import NativeGenerator
from tfguide.native.linear import Matrix
from tfguide.native.storage import ArrayStorage


class ArrayDecoder(NativeGenerator):
    """A decoder whose every product is computed by the C++ kernels, on NumPy arrays: what `native.load` returns.

    The call, `prefill`, `decode`, `score`, `new_cache` and `read_rows` are those of the models of both frameworks, and
    so are the results. Tokens, masks and logits are arrays. The kernels compute in float32; with weights of 8 or 4 bits
    they round the inputs of products to 8 bits, with bfloat16 weights and more than 4 tokens to bfloat16, where the
    processor multiplies it. Threads may share a decoder if each has its own cache.

    dtype: of the weights that are not quantised. quantization: how the others were, None: not by this package. small:
    whether there are matrices of less than 16 bits in a model without `quantization`.

    Attention maps, token types other than 0, padding before a real token and other caches than those of `new_cache`
    raise ValueError: the models of `tfguide.torch` and `tfguide.tensorflow` have them.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Matrix,
        matrices: Mapping[str, Matrix],
        vectors: Mapping[str, np.ndarray],
        threads: int,
        dtype: str = "float32",
        quantization: Quantization | None = None,
        small: bool = False,
    ):
        super().__init__(config, embedding, matrices, vectors, threads)
        self._weights = embedding, matrices, vectors
        self.compute_dtype, self.quantization, self._small = dtype, quantization, small or quantization is not None

    def with_experts(self, per_token: int) -> ArrayDecoder:
        """A decoder with the same weights, not copied, that sends each token to `per_token` experts.

        Raises ValueError for a model without experts, and for more than it has.
        """
        if self.config.experts is None:
            raise ValueError("a model without experts sends no token to one: config.experts is None")
        config = self.config.replace(experts=dataclasses.replace(self.config.experts, per_token=per_token))
        how = self.threads, self.compute_dtype, self.quantization, self._small
        return ArrayDecoder(config, *self._weights, *how)

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> DenseCache:
        """An empty cache for the model.

        cache_dtype: "float32", "bfloat16", "float16" or "int8"; default: the type of the weights, but float16 for
        weights of less than 16 bits. Raises ValueError for a size below 1, for a length beyond the model's
        `max_positions` and for another type.
        """
        dtype = choose_cache_dtype(cache_dtype, self.compute_dtype, self._small)
        if dtype not in CACHE_TYPES:
            raise ValueError(f"the kernels read a cache of {', '.join(CACHE_TYPES)}, got {dtype}: {_ELSEWHERE}")
        batch_size, max_length = check_cache_sizes(self.config, batch_size, max_length)
        slots = layer_slots(self.config, max_length)
        return DenseCache(self.config, batch_size, max_length, ArrayStorage(self.config, batch_size, slots, dtype))

    def new_storage(self, batch_size: int, n_slots: int, cache_dtype: str | None = None) -> ArrayStorage:
        """The arrays of a cache with `n_slots` in every layer."""
        dtype = choose_cache_dtype(cache_dtype, self.compute_dtype, self._small)
        return ArrayStorage(self.config, batch_size, n_slots, check_paged_dtype(dtype))

    def reads(self, cache: DenseCache | None, n_tokens: int) -> bool:
        """Whether the kernels can read and write this cache; any number of tokens is read by them."""
        return self.shares(cache)

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of arrays that have been checked: the tokens follow those in the cache, and are added to it.

        The hidden states of padding are 0.
        """
        if token_types is not None and token_types.any():
            raise ValueError(f"the kernels compute token type 0 alone: {_ELSEWHERE}")
        if record is not None:
            raise ValueError(f"the kernels keep no attention maps, expected record=None: {_ELSEWHERE}")
        if cache is None:
            cache = self.new_cache(*tokens.shape, "float32")
        elif not self.shares(cache):
            raise ValueError(f"the kernels read a dense cache in main memory, got {type(cache).__name__}")
        check_cached_call(self.config, cache.config, cache.batch_size, len(tokens), False)
        cache.check_room(tokens.shape[1])
        if valid is None or valid.all():
            cache.begin(tokens.shape[1], only_empty=True)
            hidden = self.run_kernels(tokens, cache)
            cache.advance(tokens.shape[1])
            return hidden
        check_padding_at_end(bool((valid[:, :-1] | ~valid[:, 1:]).all()))
        return self.run_valid(tokens, valid, cache)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """The head: hidden states (..., D) to logits (..., V)."""
        rows = np.asarray(hidden, np.float32).reshape(-1, self.config.d_model)
        return self.multiply_head(rows).reshape(*hidden.shape[:-1], -1)

    def as_tokens(self, tokens: Any, valid: Any = None, name: str = "tokens") -> tuple[np.ndarray, np.ndarray | None]:
        """Token ids (B, T), int64, and their padding mask as arrays. Raises TypeError or ValueError."""
        tokens = np.asarray(tokens)
        check_tokens(name, tokens.shape, tokens.dtype.kind in "iu", tokens.dtype, self.config.max_positions)
        check_token_range(name, int(tokens.min()), int(tokens.max()), self.config.vocab_size)
        if valid is not None:
            valid = np.asarray(valid)
            check_valid("valid", valid.shape, valid.dtype == bool, valid.dtype, tokens.shape)
        return tokens.astype(np.int64), valid

    def as_token_types(self, tokens: np.ndarray, token_types: Any) -> np.ndarray | None:
        """Token types (B, T) of the tokens as an array; None stays None. Raises TypeError or ValueError."""
        if token_types is None:
            return None
        token_types = np.asarray(token_types)
        check_tokens("token_types", token_types.shape, token_types.dtype.kind in "iu", token_types.dtype)
        check_token_types(self.config, token_types.shape, tokens.shape)
        check_token_range("token_types", int(token_types.min()), int(token_types.max()), self.config.n_token_types)
        return token_types

    def as_tensor(self, values: Any) -> np.ndarray:
        """An array or a list as an array."""
        return np.asarray(values)

    def last_hidden(self, hidden: np.ndarray, chunk: Chunk, before: np.ndarray | None) -> np.ndarray:
        """The hidden state (B, D) of each row's last token: from this chunk if it ends in it, else from `before`."""
        here = hidden[np.arange(len(hidden)), chunk.last]
        return here if before is None else np.where(chunk.ends[:, None], here, before)

    def as_array(self, tensor: np.ndarray) -> np.ndarray:
        """An array as a float32 array."""
        return np.asarray(tensor, np.float32)

    def without_gradients(self) -> contextlib.AbstractContextManager:
        """Nothing here records gradients."""
        return contextlib.nullcontext()


_ELSEWHERE = "use the models of tfguide.torch or tfguide.tensorflow"
