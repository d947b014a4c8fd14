"""A cache as a compiled step sees it: no shape changes from step to step, so that the step is compiled once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfguide.generation.caching import CallView
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
        n_slots = next(iter(tensors.values()))[0].shape[1]
        self.key_positions = tf.range(n_slots)[None]

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return all slots, (B, max_length, K, d)."""
        rows = tf.range(tf.shape(self.positions)[0])[:, None]
        self.tensors = replaced(self.tensors, layer, tf.stack([rows, self.positions], axis=-1), parts)
        return tuple(layers[layer] for layers in self.tensors.values())


class PromptView(CallView):
    """A traced prompt's part of an empty cache: `tensors` collects by name what the cache will hold.

    names: those of the cached tensors, `config.cached`; positions: (1, T), of the tokens.
    """

    def __init__(self, names: tuple[str, ...], positions: tf.Tensor):
        self.tensors: dict[str, list[tf.Tensor]] = {name: [] for name in names}
        self.positions = self.key_positions = positions

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Store and return the keys and values (B, T, K, d), which are all that the queries may see."""
        for layers, part in zip(self.tensors.values(), parts, strict=True):
            layers.append(part)
        return parts


def replaced(tensors, layer, places, parts):
    """The tensors of a cache, by name and layer, with `parts` of one layer written at `places` (..., 2)."""
    result = {name: list(layers) for name, layers in tensors.items()}
    for layers, part in zip(result.values(), parts, strict=True):
        layers[layer] = tf.tensor_scatter_nd_update(layers[layer], places, tf.cast(part, layers[layer].dtype))
    return result
