"""The 8-bit KV cache."""

from __future__ import annotations

import tensorflow as tf

from tfguide.config import ModelConfig
from tfguide.tensorflow.cache.dense import KVCache
from tfguide.tensorflow.cache.storage import Storage


class QuantizedStorage(Storage):
    """A `Storage` that keeps each vector of d numbers as integers from -127 to 127 and one scale, `NAME_scale`."""

    def __init__(self, config: ModelConfig, batch_size: int, n_slots: int):
        super().__init__(config, batch_size, n_slots, tf.int8)
        self._names = tuple(self.tensors)
        for name in self._names:
            sizes = [variable.shape[:-1] for variable in self.tensors[name]]
            self.tensors[f"{name}_scale"] = [self._allocate(size, tf.float32) for size in sizes]

    def write(self, layer: int, places: tf.Tensor, parts: tuple[tf.Tensor, ...]) -> None:
        """Round each part (..., d) to integers and a scale, and store them at `places`."""
        for name, part in zip(self._names, parts, strict=True):
            part = tf.cast(part, tf.float32)
            scale = tf.reduce_max(tf.abs(part), axis=-1) / 127
            integers = tf.round(part / tf.where(scale == 0, 1.0, scale)[..., None])
            self.tensors[name][layer].scatter_nd_update(places, tf.cast(integers, tf.int8))
            self.tensors[f"{name}_scale"][layer].scatter_nd_update(places, scale)

    def read(self, layer: int, end: int, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """The first `end` slots of each tensor, dequantised, in the type of the model."""
        pairs = ((self.tensors[name][layer], self.tensors[f"{name}_scale"][layer]) for name in self._names)
        return tuple(
            tf.cast(tf.cast(integers[:, :end], tf.float32) * scales[:, :end, ..., None], dtype)
            for integers, scales in pairs
        )


class QuantizedKVCache(KVCache):
    """An 8-bit `KVCache`: it keeps each key and value vector of d numbers as integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32 (B, max_length,
    K). The error of a number is at most half a scale, the largest magnitude of its vector / 254. Attention reads the
    numbers in the type of the model. Raises as `KVCache`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int):
        super().__init__(config, batch_size, max_length, storage=QuantizedStorage(config, batch_size, max_length))

    @property
    def key_scales(self) -> list[tf.Variable]:
        """The scale of each key vector, (B, max_length, K), of each layer."""
        return self.storage.tensors["key_scale"]

    @property
    def value_scales(self) -> list[tf.Variable]:
        """The scale of each value vector, (B, max_length, K), of each layer."""
        return self.storage.tensors["value_scale"]
