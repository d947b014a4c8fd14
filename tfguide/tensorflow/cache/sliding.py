"""A cache of constant size: a ring of the last positions, and sinks."""

from __future__ import annotations

import tensorflow as tf

from tfguide.config import ModelConfig
from tfguide.generation.caching import RingCache
from tfguide.tensorflow.cache.storage import Storage


class SlidingCache(RingCache):
    """A cache of constant size: the last `window` positions in a ring, and the first `n_sinks` permanently.

    A query sees itself, the `window - 1` positions before it, and the sinks, however long the text. With n_sinks = 0
    and a model with this `sliding_window`, the result equals the model's own. Positions stay those of the text: a
    rotated key keeps its rotation. StreamingLLM counts positions within the cache instead, which helps a model far
    beyond the lengths it was trained on. storage: of `window + n_sinks` slots; default: a `Storage` of this type.
    Source: Xiao et al. 2024, "Efficient Streaming Language Models with Attention Sinks".

    Raises ValueError for a window below 1, fewer than 0 sinks, or a model with a different window.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        window: int,
        n_sinks: int = 0,
        dtype: tf.DType | str = tf.float32,
        storage: Storage | None = None,
    ):
        super().__init__(config, batch_size, window, n_sinks, storage)
        if storage is None:
            self.storage = Storage(config, self.batch_size, self.window + self.n_sinks, dtype)
