"""The 8-bit KV cache, and the cache of any type."""

from __future__ import annotations

import tensorflow as tf

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_cache_sizes, check_scales
from tfguide.generation.rings import layer_slots
from tfguide.tensorflow.cache.dense import KVCache
from tfguide.tensorflow.cache.int4 import Int4KVCache
from tfguide.tensorflow.cache.storage import Storage


class QuantizedStorage(Storage):
    """A `Storage` that keeps each vector of d numbers as integers from -127 to 127 and one scale, `NAME_scale`."""

    def __init__(self, config: ModelConfig, batch_size: int, n_slots: int):
        super().__init__(config, batch_size, n_slots, tf.int8)


class QuantizedKVCache(KVCache):
    """An 8-bit `KVCache`: it keeps each key and value vector of d numbers as integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32 (B, max_length,
    K). The error of a number is at most half a scale, the largest magnitude of its vector / 254. Attention reads the
    numbers in the type of the model. storage: holds the tensors; default: a `QuantizedStorage`. Raises as `KVCache`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, storage: Storage | None = None):
        super().__init__(config, batch_size, max_length, tf.int8, storage)
        check_scales(self)


def cache_of_type(
    config: ModelConfig, batch_size: int, max_length: int, dtype: str, storage: type[Storage] = Storage
) -> KVCache | Int4KVCache:
    """An empty `KVCache` of this type; int8: a `QuantizedKVCache`; int4: an `Int4KVCache`. Raises as `KVCache`.

    storage: holds the tensors; an `Int4KVCache` has its own kind.
    """
    sizes = check_cache_sizes(config, batch_size, check_count("max_length", max_length))
    if dtype == "int4":
        return Int4KVCache(config, *sizes)
    kind = QuantizedKVCache if dtype == "int8" else KVCache
    slots = layer_slots(config, sizes[1])
    return kind(config, *sizes, storage=storage(config, sizes[0], slots, dtype))
