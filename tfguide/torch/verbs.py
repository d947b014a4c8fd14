"""The PyTorch side of generation: tensors in, arrays out."""

from __future__ import annotations

import numpy as np
import torch

from tfguide.dtypes import choose_cache_dtype
from tfguide.generation import verbs
from tfguide.generation.paged import check_paged_dtype
from tfguide.torch.cache import Int4KVCache, KVCache, Storage, cache_of_type
from tfguide.torch.inputs import as_token_types, as_tokens
from tfguide.torch.tensors import as_tensor, to_float32


class Generator(verbs.Generator):
    """`tfguide.generation.Generator` in PyTorch: a model has `dtype`, `device` and `has_small_weights`.

    It defines `read` and `logits`.
    """

    as_tokens, as_token_types = as_tokens, as_token_types

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache | Int4KVCache:
        """An empty cache for the model, on the device of its weights.

        cache_dtype: "float32", "bfloat16", "float16", "int8" (a `QuantizedKVCache`) or "int4" (an `Int4KVCache`);
        default: the type of the activations, but float16 if the weights are quantised, or in blocks, and the
        activations are float32. Raises as `KVCache`, and ValueError for another type.
        """
        dtype = choose_cache_dtype(cache_dtype, str(self.dtype).removeprefix("torch."), self.has_small_weights)
        return cache_of_type(self.config, batch_size, max_length, dtype, self.device)

    def new_storage(self, batch_size: int, n_slots: int, cache_dtype: str | None = None) -> Storage:
        """The tensors of a cache with `n_slots` in every layer, where the model can use them."""
        dtype = choose_cache_dtype(cache_dtype, str(self.dtype).removeprefix("torch."), self.has_small_weights)
        return Storage(self.config, batch_size, n_slots, check_paged_dtype(dtype), self.device)

    def last_hidden(self, hidden, chunk, before):
        """The hidden state (B, D) of each row's last token: from this chunk if it ends in it, else from `before`."""
        rows, last, ends = (as_tensor(x, hidden.device) for x in (np.arange(len(hidden)), chunk.last, chunk.ends))
        here = hidden[rows, last]
        return here if before is None else torch.where(ends[:, None], here, before)

    def as_tensor(self, values):
        """A tensor, an array or a list as a tensor beside the weights."""
        return as_tensor(values, self.device)

    def as_array(self, tensor):
        """A tensor as a float32 array in main memory."""
        return to_float32(tensor)

    def without_gradients(self):
        """Compute without recording gradients: PyTorch's inference mode."""
        return torch.inference_mode()
