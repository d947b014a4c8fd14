"""A cache as a compiled step sees it: no shape changes from step to step, so that the step is compiled once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfguide.config import ModelConfig
from tfguide.generation.blockwise import BLOCK, NEVER, Places
from tfguide.generation.views import CallView, WindowPart
from tfguide.tensorflow.cache.encoding import decode, encode
from tfguide.tensorflow.cache.int4 import append
from tfguide.tensorflow.cache.storage import Storage


class TensorStorage(Storage):
    """A `Storage` of tensors, which a write replaces: the input and the output of a compiled step."""

    def write(self, layer: int, places: tf.Tensor, parts: tuple[tf.Tensor, ...]) -> None:
        """Store each part at `places` of its tensor, in the type of the storage."""
        self.tensors = replaced(self.tensors, layer, places, parts)

    def replace(self, tensors: dict[str, list[tf.Tensor]]) -> None:
        """Take the tensors that a compiled step has returned."""
        self.tensors = tensors

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`."""
        self.tensors = {name: [self.take(x, rows) for x in layers] for name, layers in self.tensors.items()}

    def _allocate(self, size, dtype):
        return tf.zeros(size, dtype)


class StaticView(CallView):
    """A compiled step's part of a `KVCache`: all slots, filled or not, and a mask that hides the empty ones.

    `tensors`: those of the cache's `TensorStorage`, then their updated values; positions: (B, 1), of the new tokens.
    """

    def __init__(self, tensors: dict[str, list[tf.Tensor]], positions: tf.Tensor):
        self.tensors, self.positions = tensors, positions
        self._slots = [tensor.shape[1] for tensor in next(iter(tensors.values()))]
        n_slots = max(self._slots)
        self.key_positions = tf.range(n_slots)[None]

    def part(self, slides: bool) -> CallView:
        """The positions of the keys, and what is visible, in layers with a window or in the others."""
        if not slides:
            return self
        ring = min(self._slots)  # the newest position is in its slot already
        return WindowPart(self.positions - (self.positions - tf.range(ring)) % ring)  # (B, ring), negative where empty

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return all slots, (B, n_slots, K, d), in the same type."""
        rows = tf.range(tf.shape(self.positions)[0])[:, None]
        slots = self.positions % self._slots[layer]
        self.tensors = replaced(self.tensors, layer, tf.stack([rows, slots], axis=-1), parts)
        return decode(tuple(layers[layer] for layers in self.tensors.values()), parts[0].dtype)


class StaticBlockView(CallView):
    """A compiled step's part of an `Int4KVCache`: all its blocks, and the block of each row's new token.

    In every step the newest block is written in 4 bits too, whole or not: no query reads it before it is whole.
    `tensors`: those of the cache's storage, then their updated values; positions: (B, 1), of the new tokens.
    """

    def __init__(self, tensors: dict[str, list[tf.Tensor]], positions: tf.Tensor):
        self.tensors = {name: list(layers) for name, layers in tensors.items()}
        self.positions = positions
        B, n_blocks = tensors["key"][0].shape[:2]
        n_recent = tensors["key_recent"][0].shape[1]
        rows, offsets = tf.range(B)[:, None], tf.range(BLOCK)[None]
        row, place = rows[:, 0], positions[:, 0]
        window = positions // BLOCK * BLOCK + offsets  # (B, 32)
        self._places = Places(
            window=_index(rows, tf.where(window < positions, window % n_recent, n_recent)),
            values=_index(rows, window),
            new=_index(rows, positions),
            kept=_index(row, tf.zeros_like(row)),
            slots=_index(row, place % n_recent),
            done=_index(rows, offsets),
            blocks=_index(row, place // BLOCK),
            n_blocks=n_blocks,
        )
        blocks = tf.tile(tf.range(n_blocks * BLOCK)[None], (B, 1))
        self.key_positions = tf.concat([blocks, window], axis=1)  # (B, S)
        first = tf.concat([blocks // BLOCK * BLOCK + BLOCK, window], axis=1)
        end = tf.concat([tf.fill(blocks.shape, NEVER), window // BLOCK * BLOCK + BLOCK], axis=1)
        self._seen = (positions >= first) & (positions < end)

    def visible(self, distance: tf.Tensor) -> tf.Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return self._seen[:, None]

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return those in all blocks and in the newest, (B, S, K, d)."""
        return append(self.tensors, layer, self._places, parts)


def static_view(tensors: dict[str, list[tf.Tensor]], positions: tf.Tensor) -> StaticView | StaticBlockView:
    """The view of a cache of any type by its tensors; see `StaticView`."""
    return (StaticBlockView if "key_recent" in tensors else StaticView)(tensors, positions)


class PromptView(CallView):
    """A traced prompt's part of an empty cache: `tensors` collects by name what the cache will hold.

    dtype: of the cache; positions: (1, T), of the tokens.
    """

    def __init__(self, config: ModelConfig, dtype: tf.DType, positions: tf.Tensor):
        scales = [f"{name}_scale" for name in config.cached] if dtype == tf.int8 else []
        self.tensors: dict[str, list[tf.Tensor]] = {name: [] for name in (*config.cached, *scales)}
        self.positions, self._dtype = positions, dtype
        self.key_positions = positions

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store the keys and values (B, T, K, d) and return them, rounded as the cache rounds, for the queries."""
        stored = encode(parts, self._dtype)
        for layers, part in zip(self.tensors.values(), stored, strict=True):
            layers.append(part)
        return decode(stored, parts[0].dtype)


def replaced(tensors, layer, places, parts):
    """The tensors of a cache, by name and layer, with `parts` of one layer written at `places` (..., 2)."""
    result = {name: list(layers) for name, layers in tensors.items()}
    stored_type = next(iter(result.values()))[layer].dtype
    for layers, part in zip(result.values(), encode(parts, stored_type), strict=True):
        layers[layer] = tf.tensor_scatter_nd_update(layers[layer], places, part)
    return result


def _index(rows, places):
    return tf.stack([rows + tf.zeros_like(places), places + tf.zeros_like(rows)], axis=-1)
