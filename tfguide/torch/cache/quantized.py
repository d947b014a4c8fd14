"""The 8-bit KV cache, and the cache of any type."""

from __future__ import annotations

import torch

from tfguide.config import ModelConfig
from tfguide.generation.checks import check_scales
from tfguide.torch.cache.dense import KVCache
from tfguide.torch.cache.int4 import Int4KVCache
from tfguide.torch.cache.storage import Storage


class QuantizedStorage(Storage):
    """A `Storage` that keeps each vector of d numbers as integers from -127 to 127 and one scale, `NAME_scale`."""

    def __init__(self, config: ModelConfig, batch_size: int, n_slots: int, device=None):
        super().__init__(config, batch_size, n_slots, torch.int8, device)


class QuantizedKVCache(KVCache):
    """An 8-bit `KVCache`: it keeps each key and value vector of d numbers as integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32 (B, max_length,
    K). The error of a number is at most half a scale, the largest magnitude of its vector / 254. Attention reads the
    numbers in the type of the model. storage: holds the tensors; default: a `QuantizedStorage`. Raises as `KVCache`.
    """

    def __init__(
        self, config: ModelConfig, batch_size: int, max_length: int, device=None, storage: Storage | None = None
    ):
        super().__init__(config, batch_size, max_length, torch.int8, device, storage)
        check_scales(self)


def cache_of_type(
    config: ModelConfig, batch_size: int, max_length: int, dtype: str, device=None
) -> KVCache | Int4KVCache:
    """An empty `KVCache` of this type; int8: a `QuantizedKVCache`; int4: an `Int4KVCache`. Raises as `KVCache`."""
    if dtype == "int4":
        return Int4KVCache(config, batch_size, max_length, device)
    if dtype == "int8":
        return QuantizedKVCache(config, batch_size, max_length, device)
    return KVCache(config, batch_size, max_length, dtype, device)
