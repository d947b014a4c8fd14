"""Caches: one file for each kind. `tfguide.generation.caching` counts positions; the storages here keep tensors."""

from tfguide.torch.cache.dense import KVCache
from tfguide.torch.cache.int4 import Int4KVCache
from tfguide.torch.cache.quantized import QuantizedKVCache, QuantizedStorage, cache_of_type
from tfguide.torch.cache.sliding import SlidingCache
from tfguide.torch.cache.static import StaticView, static_view
from tfguide.torch.cache.storage import Storage

__all__ = [
    "Int4KVCache", "KVCache", "QuantizedKVCache", "QuantizedStorage", "SlidingCache", "StaticView", "Storage",
    "cache_of_type", "static_view",
]  # fmt: skip
