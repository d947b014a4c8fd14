"""Caches: one file for each kind. `tfguide.generation.caching` counts positions; the storages here keep tensors."""

from tfguide.tensorflow.cache.dense import KVCache
from tfguide.tensorflow.cache.int4 import Int4KVCache
from tfguide.tensorflow.cache.quantized import QuantizedKVCache, QuantizedStorage, cache_of_type
from tfguide.tensorflow.cache.sliding import SlidingCache
from tfguide.tensorflow.cache.static import PromptView, StaticView, TensorStorage, static_view
from tfguide.tensorflow.cache.storage import ArrayStorage, Storage

__all__ = [
    "ArrayStorage", "Int4KVCache", "KVCache", "PromptView", "QuantizedKVCache", "QuantizedStorage", "SlidingCache",
    "StaticView", "Storage", "TensorStorage", "cache_of_type", "static_view",
]  # fmt: skip
