"""The KV cache: the keys and values of every position seen so far, so that a step computes those of new tokens only."""

from __future__ import annotations

import math

import tensorflow as tf

from tfguide.config import ModelConfig
from tfguide.generation.caching import check_cache_sizes, check_positions_left, check_room, check_sliding, kept_lengths


class KVCache:
    """Room for `max_length` positions of each row in each layer, allocated once; passed in, never hidden in a model.

    `keys[layer]`, `values[layer]`: (B, max_length, K, d); `lengths`: (B,), how many positions of each row are filled.
    A row's position p stands in slot p. Rows may differ in length: what padding writes beyond a row's length is
    overwritten by its next token before a query can look at it. dtype: the framework's, or its name.

    Raises ValueError for an encoder, a size below 1, or a length beyond the model's `max_positions`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, dtype=tf.float32):
        batch_size, max_length = check_cache_sizes(config, batch_size, max_length)
        self.config, self.batch_size, self.max_length = config, batch_size, max_length
        self.lengths = tf.zeros(batch_size, tf.int32)
        self.memory: tuple[tf.Tensor, tf.Tensor | None] | None = None  # an encoder's output and which of it is valid
        self._cross: list[tuple[tf.Tensor, tf.Tensor] | None] = [None] * config.n_layers
        self._allocate(max_length, tf.as_dtype(dtype))

    def _allocate(self, n_slots, dtype):
        shape = (self.batch_size, n_slots, self.config.n_kv_heads, self.config.d_head)
        self.keys = [tf.Variable(tf.zeros(shape, dtype), trainable=False) for _ in range(self.config.n_layers)]
        self.values = [tf.Variable(tf.zeros(shape, dtype), trainable=False) for _ in range(self.config.n_layers)]

    def _tensors(self):
        """The lists of tensors, one for each layer, whose first axis is that of the rows."""
        return [self.keys, self.values]

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values, filled or not; an encoder's are not counted."""
        return sum(math.prod(x.shape) * x.dtype.size for tensors in self._tensors() for x in tensors)

    @property
    def holds_nothing(self) -> bool:
        """Whether no row has a position yet, and queries see what comes with them only."""
        return int(tf.reduce_max(self.lengths)) == 0

    def positions(self, n_tokens: int) -> tf.Tensor:
        """Where the next `n_tokens` of each row stand: (B, T). Raises ValueError where they do not fit."""
        check_room(int(tf.reduce_max(self.lengths)), n_tokens, self.max_length)
        return self.lengths[:, None] + tf.range(n_tokens)

    def key_positions(self, positions: tf.Tensor) -> tf.Tensor:
        """Where the keys stand that queries at `positions` (B, T) are given: (B or 1, S); -1 where there is none."""
        return tf.range(tf.reduce_max(positions) + 1)[None]

    def visible(self, distance: tf.Tensor, key_positions: tf.Tensor) -> tf.Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return distance >= 0

    def advance(self, counts: tf.Tensor | int) -> None:
        """Count the tokens just written as filled: `counts` of each row, (B,) or one number for all."""
        self.lengths = self.lengths + counts

    def rewind(self, lengths: tf.Tensor | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError where a row would become longer, or shorter than 0.
        """
        kept = kept_lengths(lengths, self.lengths.numpy())
        self.lengths = tf.constant(kept, tf.int32)

    def reorder(self, rows: tf.Tensor) -> None:
        """Let row i become what row `rows[i]` was, rows (B,) of any new number B: the step of a beam search."""
        rows = tf.cast(tf.convert_to_tensor(rows), tf.int64)
        for tensors in self._tensors():
            tensors[:] = [tf.Variable(tf.gather(variable, rows), trainable=False) for variable in tensors]
        self.batch_size = len(rows)
        self.lengths = tf.gather(self.lengths, rows)
        self._cross = [None if pair is None else tuple(tf.gather(x, rows) for x in pair) for pair in self._cross]
        if self.memory is not None:
            self.memory = tuple(None if x is None else tf.gather(x, rows) for x in self.memory)

    def layer(self, index: int, positions: tf.Tensor) -> _LayerCache:
        """One layer's part, ready to write at `positions` (B, T)."""
        return _LayerCache(self, index, positions)

    def _append(self, index, positions, key, value):
        keys, values = self.keys[index], self.values[index]
        slots = _slots(positions)
        keys.scatter_nd_update(slots, tf.cast(key, keys.dtype))
        values.scatter_nd_update(slots, tf.cast(value, values.dtype))
        end = tf.reduce_max(positions) + 1
        return tf.cast(keys[:, :end], key.dtype), tf.cast(values[:, :end], value.dtype)  # it may have its own type


class QuantizedKVCache(KVCache):
    """A `KVCache` of 8 bits: each key and value vector of d numbers is integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32, without d. A
    number is wrong by at most half a scale, the largest magnitude of its vector / 254. Attention gets the numbers
    back in the type of the model.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int):
        super().__init__(config, batch_size, max_length, tf.int8)

    def _allocate(self, n_slots, dtype):
        super()._allocate(n_slots, dtype)
        shape = (self.batch_size, n_slots, self.config.n_kv_heads)
        self.key_scales = [tf.Variable(tf.zeros(shape), trainable=False) for _ in range(self.config.n_layers)]
        self.value_scales = [tf.Variable(tf.zeros(shape), trainable=False) for _ in range(self.config.n_layers)]

    def _tensors(self):
        return [*super()._tensors(), self.key_scales, self.value_scales]

    def _append(self, index, positions, key, value):
        key_scale, value_scale = (
            tf.reduce_max(tf.abs(tf.cast(x, tf.float32)), axis=-1) / 127 for x in (key, value)
        )  # (B, T, K)
        integers = (
            tf.round(tf.cast(x, tf.float32) / tf.where(scale == 0, 1.0, scale)[..., None])
            for x, scale in ((key, key_scale), (value, value_scale))
        )
        keys, values = super()._append(index, positions, *integers)
        self.key_scales[index].scatter_nd_update(_slots(positions), key_scale)
        self.value_scales[index].scatter_nd_update(_slots(positions), value_scale)
        end = tf.shape(keys)[1]
        return (
            tf.cast(tf.cast(keys, tf.float32) * self.key_scales[index][:, :end, :, None], key.dtype),
            tf.cast(tf.cast(values, tf.float32) * self.value_scales[index][:, :end, :, None], value.dtype),
        )


class SlidingCache(KVCache):
    """A cache of constant size: the last `window` positions in a ring, and the first `n_sinks` for ever.

    A query sees itself, the `window - 1` positions before it, and the sinks, however long the text; with n_sinks = 0
    and a model of that `sliding_window` the result is the model's own. Positions stay those of the text: a rotated key
    keeps its rotation. StreamingLLM counts positions within the cache instead, which helps a model far beyond the
    lengths it was trained on. Source: Xiao et al. 2024, "Efficient Streaming Language Models with Attention Sinks".

    Raises ValueError for a window below 1, fewer than 0 sinks, or a model with another window of its own.
    """

    def __init__(self, config: ModelConfig, batch_size: int, window: int, n_sinks: int = 0, dtype=tf.float32):
        window, n_sinks = check_sliding(config, window, n_sinks)
        self.window, self.n_sinks = window, n_sinks
        super().__init__(config, batch_size, 1, dtype)
        self._allocate(window + n_sinks, tf.as_dtype(dtype))
        self.max_length = config.max_positions  # the text is as long as the model can read
        self._slots = tf.fill((batch_size, window + n_sinks), -1)  # the position in each slot
        self._new: dict[int, tuple[tf.Tensor, tf.Tensor]] = {}
        self._new_positions: tf.Tensor | None = None

    def positions(self, n_tokens: int) -> tf.Tensor:
        """Where the next `n_tokens` of each row stand: (B, T). Raises ValueError beyond the model's own positions."""
        check_positions_left(self.config, int(tf.reduce_max(self.lengths)), n_tokens)
        return self.lengths[:, None] + tf.range(n_tokens)

    def key_positions(self, positions: tf.Tensor) -> tf.Tensor:
        """Where the keys stand that queries at `positions` (B, T) are given: (B or 1, S); -1 where there is none."""
        return tf.concat([self._slots, positions], axis=1)

    def visible(self, distance: tf.Tensor, key_positions: tf.Tensor) -> tf.Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        keys = key_positions[:, None, :]  # (B, 1, S)
        return (distance >= 0) & (keys >= 0) & ((distance < self.window) | (keys < self.n_sinks))

    def advance(self, counts: tf.Tensor | int) -> None:
        """Count the tokens just written as filled: `counts` of each row, (B,) or one number for all."""
        super().advance(counts)
        # Only now is it known which tokens are real: padding must not push anything out of the ring.
        positions, lengths = self._new_positions, self.lengths[:, None]
        stays = (positions < lengths) & ((positions >= lengths - self.window) | (positions < self.n_sinks))
        places = tf.where(stays)  # (n, 2): rows and columns
        positions = tf.gather_nd(positions, places)
        ring = self.n_sinks + (positions - self.n_sinks) % self.window
        slots = tf.where(positions < self.n_sinks, positions, ring)
        slots = tf.stack([tf.cast(places[:, 0], tf.int32), slots], axis=1)
        self._slots = tf.tensor_scatter_nd_update(self._slots, slots, positions)
        for index, (key, value) in self._new.items():
            self.keys[index].scatter_nd_update(slots, tf.cast(tf.gather_nd(key, places), self.keys[index].dtype))
            self.values[index].scatter_nd_update(slots, tf.cast(tf.gather_nd(value, places), self.values[index].dtype))
        self._new, self._new_positions = {}, None

    def rewind(self, lengths: tf.Tensor | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError where a row would become longer or shorter than 0, or needs positions that the ring has
        overwritten.
        """
        kept = kept_lengths(lengths, self.lengths.numpy(), self.window, self.n_sinks)
        self.lengths = tf.constant(kept, tf.int32)
        self._slots = tf.where(self._slots >= self.lengths[:, None], -1, self._slots)

    def reorder(self, rows: tf.Tensor) -> None:
        """Let row i become what row `rows[i]` was, rows (B,) of any new number B: the step of a beam search."""
        super().reorder(rows)
        self._slots = tf.gather(self._slots, tf.cast(tf.convert_to_tensor(rows), tf.int64))

    def _append(self, index, positions, key, value):
        self._new[index], self._new_positions = (key, value), positions
        keys, values = tf.cast(self.keys[index], key.dtype), tf.cast(self.values[index], value.dtype)
        return tf.concat([keys, key], axis=1), tf.concat([values, value], axis=1)


def _slots(positions):
    """Row and slot of every new token: (B, T, 2)."""
    rows = tf.broadcast_to(tf.range(tf.shape(positions)[0])[:, None], tf.shape(positions))
    return tf.stack([rows, positions], axis=-1)


class _LayerCache:
    def __init__(self, cache, index, positions):
        self._cache, self._index, self._positions = cache, index, positions

    def append(self, key, value):
        """Keep new keys and values (B, T, K, d); all that the new queries may see, (B, S, K, d)."""
        return self._cache._append(self._index, self._positions, key, value)

    def cross(self, attention, memory):
        """The keys and values of an encoder's output, (B, S, K, d): they never change, so they are computed once."""
        cross = self._cache._cross
        if cross[self._index] is None:
            cross[self._index] = attention.keys_values(memory)
        return cross[self._index]
