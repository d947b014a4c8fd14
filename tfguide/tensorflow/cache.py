"""The KV cache: the keys and values of every position seen so far, so that a step computes those of new tokens only."""

from __future__ import annotations

import math

import tensorflow as tf

from tfguide import checks
from tfguide.config import ModelConfig


class KVCache:
    """Room for `max_length` positions of each row in each layer, allocated once; passed in, never hidden in a model.

    `keys[layer]`, `values[layer]`: (B, max_length, K, d); `lengths`: (B,), how many positions of each row are filled.
    A row's position p stands in slot p. Rows may differ in length: what padding writes beyond a row's length is
    overwritten by its next token before a query can look at it.

    Raises ValueError for an encoder, a size below 1, or a length beyond the model's `max_positions`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, dtype=tf.float32):
        checks.cache(config, batch_size, max_length)
        shape = (batch_size, max_length, config.n_kv_heads, config.d_head)
        self.config, self.batch_size, self.max_length = config, batch_size, max_length
        self.keys = [tf.Variable(tf.zeros(shape, dtype), trainable=False) for _ in range(config.n_layers)]
        self.values = [tf.Variable(tf.zeros(shape, dtype), trainable=False) for _ in range(config.n_layers)]
        self.lengths = tf.zeros(batch_size, tf.int32)
        self.memory: tuple[tf.Tensor, tf.Tensor | None] | None = None  # an encoder's output and which of it is valid
        self._cross: list[tuple[tf.Tensor, tf.Tensor] | None] = [None] * config.n_layers

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values, filled or not; an encoder's are not counted."""
        return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in self.keys + self.values)

    def positions(self, n_tokens: int) -> tf.Tensor:
        """Where the next `n_tokens` of each row stand: (B, T). Raises ValueError where they do not fit."""
        checks.room(int(tf.reduce_max(self.lengths)), n_tokens, self.max_length)
        return self.lengths[:, None] + tf.range(n_tokens)

    def advance(self, counts: tf.Tensor | int) -> None:
        """Count the tokens just written as filled: `counts` of each row, (B,) or one number for all."""
        self.lengths = self.lengths + counts

    def layer(self, index: int, positions: tf.Tensor) -> _LayerCache:
        """One layer's part, ready to write at `positions` (B, T)."""
        return _LayerCache(self, index, positions)


class _LayerCache:
    def __init__(self, cache, index, positions):
        self._cache, self._index, self._positions = cache, index, positions
        self._end = tf.reduce_max(positions) + 1

    def append(self, key, value):
        """Keep new keys and values (B, T, K, d); all of them so far, (B, S, K, d)."""
        keys, values = self._cache.keys[self._index], self._cache.values[self._index]
        rows = tf.broadcast_to(tf.range(keys.shape[0])[:, None], tf.shape(self._positions))
        slots = tf.stack([rows, self._positions], axis=-1)  # (B, T, 2)
        keys.scatter_nd_update(slots, tf.cast(key, keys.dtype))
        values.scatter_nd_update(slots, tf.cast(value, values.dtype))
        return keys[:, : self._end], values[:, : self._end]

    def cross(self, attention, memory):
        """The keys and values of an encoder's output, (B, S, K, d): they never change, so they are computed once."""
        cross = self._cache._cross
        if cross[self._index] is None:
            cross[self._index] = attention.keys_values(memory)
        return cross[self._index]
