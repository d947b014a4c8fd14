"""The 4-bit KV cache."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.blockwise import BLOCK, BlockCache, Places, tensor_sizes
from tfguide.generation.checks import check_cache_sizes
from tfguide.tensorflow.cache.encoding import encode
from tfguide.tensorflow.cache.levels import from_levels, pack, to_groups, to_levels, unpack
from tfguide.tensorflow.cache.storage import Storage


class Int4Storage(Storage):
    """The tensors of an `Int4KVCache`, by name and layer, which a write replaces. Steps and minima are float16.

    "key": levels, uint8 (B, blocks, 32, K, d / 2); "key_step", "key_minimum": (B, blocks, K, d); "key_recent": float16
    (B, n, K, d), position p in slot p % n; "value": levels, uint8 (B, positions, K, d / 2); "value_step",
    "value_minimum": (B, positions, K, groups). A half of an odd d is rounded up.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int):
        super().__init__(config, batch_size, max_length, tf.uint8)

    def append(self, layer: int, places: Places, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store new keys and values (B, T, K, d); return those that the call reads, (B, S, K, d), see `bounds`."""
        return append(self.tensors, layer, places, parts)

    def restore(self, rows: np.ndarray, positions: np.ndarray) -> None:
        """Put the 4-bit keys at rows and positions (n,) where the recent keys of these positions are kept."""
        recent = self.tensors["key_recent"]
        blocks, places = self.index(rows, positions // BLOCK), self.index(rows, positions // BLOCK, positions % BLOCK)
        slots = self.index(rows, positions % recent[0].shape[1])
        for layer, parts in enumerate(zip(*self._of_keys(), strict=True)):
            levels, step, minimum = (tf.gather_nd(x, at) for x, at in zip(parts, (places, blocks, blocks), strict=True))
            levels = unpack(levels, recent[layer].shape[-1])
            keys = from_levels(levels[:, None], step, minimum, 1)[:, 0]
            recent[layer] = tf.tensor_scatter_nd_update(recent[layer], slots, tf.cast(keys, tf.float16))

    def replace(self, tensors: dict[str, list[tf.Tensor]]) -> None:
        """Take the tensors that a compiled step has returned."""
        self.tensors = tensors

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`."""
        self.tensors = {name: [self.take(x, rows) for x in layers] for name, layers in self.tensors.items()}

    def index(self, *arrays: np.ndarray) -> tf.Tensor:
        """Arrays of integers that broadcast, one for each axis, as an index (..., axes)."""
        return tf.constant(np.stack(np.broadcast_arrays(*arrays), axis=-1), tf.int32)

    def _of_keys(self):
        return (self.tensors[name] for name in ("key", "key_step", "key_minimum"))

    def _sizes(self, config, batch_size, n_slots):
        sizes = tensor_sizes(config, batch_size, n_slots)
        return {name: (size, tf.as_dtype(kind)) for name, (size, kind) in sizes.items()}

    def _allocate(self, size, dtype):
        return tf.zeros(size, dtype)


class Int4KVCache(BlockCache):
    """A 4-bit KV cache: keys in blocks of 32 positions, values in groups of at most 32 features, each of 16 levels.

    A channel of a head's keys has its own step and minimum in each block, float16, since a few channels are much larger
    than the others. The newest block is kept in float16 until it is full. A value vector is rounded at once, with a
    step and a minimum for each group of its features. The error of a number is at most half a step, a thirtieth of the
    range of its block or group, beside that of float16. A query reads the keys of its own block in float16 and older
    blocks in 4 bits: for every split of a text into calls the result is the same, up to the order of sums.

    `lengths`, rows of different lengths and what raises are as in `KVCache`; a number beyond 65504 is stored as NaN.
    The cache has room for whole blocks and takes 5 bits for each number, and float16 for the keys of 64 positions.
    `rewind` says what it forgets. Attention reads the numbers in the type of the model. The C++ kernels do not read
    this cache: fast decoders leave it to the framework.
    Source: Liu et al. 2024, "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", section 3.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int):
        sizes = check_cache_sizes(config, batch_size, check_count("max_length", max_length))
        super().__init__(config, *sizes, Int4Storage(config, *sizes))


def append(tensors: dict[str, list[tf.Tensor]], layer: int, places: Places, parts: tuple[tf.Tensor, ...]):
    """Write new keys and values (B, T, K, d) to the tensors of a layer; return those that the call reads."""
    of = {name: layers[layer] for name, layers in tensors.items()}

    def write(at, **parts):
        for name, part in parts.items():
            tensors[name][layer] = of[name] = tf.tensor_scatter_nd_update(of[name], at, part)

    key, value = encode(parts, tf.float16)
    (B, _, K, d), d_v = key.shape, value.shape[-1]
    window = tf.gather_nd(tf.concat([of["key_recent"], key], axis=1), places.window)  # (B, W, K, d)
    write(places.slots, key_recent=tf.gather_nd(key, places.kept))
    if places.blocks is not None:
        levels, step, minimum = to_levels(tf.gather_nd(window, places.done), 1)
        write(places.blocks, key=pack(levels), key_step=step, key_minimum=minimum)
    levels, step, minimum = to_levels(to_groups(value), -1)
    levels = tf.reshape(levels, (*levels.shape[:-2], -1))[..., :d_v]
    write(places.new, value=pack(levels), value_step=step, value_minimum=minimum)

    older = {name: x[:, : places.n_blocks] for name, x in of.items()}
    keys = from_levels(unpack(older["key"], d), older["key_step"], older["key_minimum"], 2)
    keys = tf.reshape(keys, (B, -1, K, d))  # (B, blocks * 32, K, d)
    end = BLOCK * places.n_blocks + BLOCK
    levels = to_groups(unpack(of["value"][:, :end], d_v))
    values = from_levels(levels, of["value_step"][:, :end], of["value_minimum"][:, :end], -1)
    values = tf.reshape(values, (*values.shape[:-2], -1))[..., :d_v]  # (B, positions, K, d)
    dtype = parts[0].dtype
    return (
        tf.concat([tf.cast(keys, dtype), tf.cast(window, dtype)], axis=1),
        tf.cast(tf.concat([values[:, : end - BLOCK], tf.gather_nd(values, places.values)], axis=1), dtype),
    )
