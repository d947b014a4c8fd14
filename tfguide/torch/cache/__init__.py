"""Caches: one file for each kind. `tfguide.generation.caching` counts positions; the storages here keep tensors."""

from tfguide.torch.cache.dense import KVCache
from tfguide.torch.cache.quantized import QuantizedKVCache, QuantizedStorage, cache_of_type
from tfguide.torch.cache.sliding import SlidingCache
from tfguide.torch.cache.static import StaticView
from tfguide.torch.cache.storage import Storage

__all__ = [
    "KVCache", "QuantizedKVCache", "QuantizedStorage", "SlidingCache", "StaticView", "Storage", "cache_of_type",
]  # fmt: skip
