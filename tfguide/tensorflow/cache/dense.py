"""The KV cache: the keys and values of every position seen so far, so that a step computes only those of new tokens."""

from __future__ import annotations

import tensorflow as tf

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.caching import DenseCache
from tfguide.generation.rings import layer_slots
from tfguide.tensorflow.cache.storage import Storage


class KVCache(DenseCache):
    """Keys and values of up to `max_length` positions of each row in each layer, allocated once outside the model.

    `keys[layer]`, `values[layer]`: (B, max_length, K, d); `lengths`: int64 array (B,), the number of filled positions
    of each row. Position p of a row is stored in slot p; a layer with a window keeps a ring of the newest positions,
    where that takes less memory (see `tfguide.generation.rings`). Rows may differ in length: the row's next token
    overwrites what padding wrote beyond its length before a query can see it.

    dtype: the framework's, or its name. In float16 a number beyond 65504 is stored as NaN, and `generate` then raises;
    bfloat16 has the range of float32. int8: as in `QuantizedKVCache`. storage: holds the tensors; default: a `Storage`
    of this type.
    Raises ValueError for an encoder, a size below 1, or a length beyond the model's `max_positions`.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        dtype: tf.DType | str = tf.float32,
        storage: Storage | None = None,
    ):
        super().__init__(config, batch_size, check_count("max_length", max_length), storage)
        if storage is None:
            self.storage = Storage(config, self.batch_size, layer_slots(config, self.max_length), dtype)
