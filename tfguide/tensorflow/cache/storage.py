"""The tensors of a cache: one (B, n_slots, ...) for each layer and for each cached name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_cache_sizes
from tfguide.generation.rings import by_layer, ring_places
from tfguide.tensorflow.cache.encoding import decode, encode


class Storage:
    """Room for `n_slots` positions of each row in each layer, or for those of a list by layer, allocated once.

    `tensors[name][layer]`: `(B, n_slots, *shape)`, for every name and shape of `config.cached`. With dtype int8 each
    vector of d numbers is integers from -127 to 127 and one scale, float32, in `tensors[f"{name}_scale"][layer]`.
    dtype: the framework's, or its name. Raises ValueError for an encoder and for sizes below 1.
    """

    addressable = False  # the C++ kernels need fixed addresses, and TensorFlow moves a variable

    def __init__(
        self, config: ModelConfig, batch_size: int, n_slots: int | Sequence[int], dtype: tf.DType | str = tf.float32
    ):
        check_cache_sizes(config, batch_size, None)
        self.dtype = tf.as_dtype(dtype)
        layers = [self._sizes(config, batch_size, slots) for slots in by_layer(config, n_slots)]
        self.tensors = {name: [self._allocate(*layer[name]) for layer in layers] for name in layers[0]}

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, filled or not."""
        return sum(math.prod(x.shape) * tf.as_dtype(x.dtype).size for layers in self.tensors.values() for x in layers)

    def as_tensor(self, array: np.ndarray) -> tf.Tensor:
        """An array of integers as a tensor, int32."""
        return tf.constant(array, tf.int32)

    def places(self, rows: np.ndarray, slots: np.ndarray) -> tf.Tensor:
        """Rows and slots, which broadcast, as the index (..., 2) that `write` takes."""
        return tf.constant(np.stack(np.broadcast_arrays(rows, slots), axis=-1), tf.int32)

    def index(self, rows: np.ndarray, slots: np.ndarray) -> tf.Tensor:
        """Rows and slots of one shape as the index that `write` and `gather` take."""
        return self.places(rows, slots)

    def write(self, layer: int, places: tf.Tensor, parts: tuple[tf.Tensor, ...]) -> None:
        """Store each part at `places` of its tensor, in the type of the storage."""
        for tensors, part in zip(self.tensors.values(), encode(parts, self.dtype), strict=True):
            tensors[layer].scatter_nd_update(places, part)

    def read(self, layer: int, end: int, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """The first `end` slots of each tensor, in the type of the model."""
        return decode(tuple(tensors[layer][:, :end] for tensors in self.tensors.values()), dtype)

    def gather(self, layer: int, places: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """What is stored at places (B, S) of each tensor, (B, S, ...), in the type of the model."""
        return decode(tuple(tf.gather_nd(tensors[layer], places) for tensors in self.tensors.values()), dtype)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`."""
        for layers in self.tensors.values():
            layers[:] = [tf.Variable(self.take(x, rows), trainable=False) for x in layers]

    def take(self, x: tf.Tensor, rows: np.ndarray) -> tf.Tensor:
        """The rows of a tensor."""
        return tf.gather(x, rows)

    def pick(self, x: tf.Tensor, rows: np.ndarray, columns: np.ndarray) -> tf.Tensor:
        """The entries (n, ...) of a tensor (B, T, ...) at rows and columns (n,)."""
        return tf.gather_nd(x, np.stack([rows, columns], axis=-1))

    def join(self, kept: tuple[tf.Tensor, ...], new: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """The kept positions followed by the new ones, for each tensor."""
        return tuple(tf.concat(pair, axis=1) for pair in zip(kept, new, strict=True))

    def rounded(self, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Each part as it is read after it is written."""
        return decode(encode(parts, self.dtype), parts[0].dtype)

    def _sizes(self, config, batch_size, n_slots):
        """The size and the type of each tensor of a layer, by its name."""
        sizes = {name: ((batch_size, n_slots, *shape), self.dtype) for name, shape in config.cached.items()}
        if self.dtype == tf.int8:
            sizes |= {f"{name}_scale": (size[:-1], tf.float32) for name, (size, _) in sizes.items()}
        return sizes

    def _allocate(self, size, dtype):
        return tf.Variable(tf.zeros(size, dtype), trainable=False)


class ArrayStorage(native.ArrayStorage, Storage):
    """A `Storage` of NumPy arrays, whose addresses are fixed, so that the C++ kernels can read and write them."""

    def __init__(
        self, config: ModelConfig, batch_size: int, n_slots: int | Sequence[int], dtype: tf.DType | str = tf.float32
    ):
        self.dtype = tf.as_dtype(dtype)
        self.tensors = native.empty_arrays(config, batch_size, n_slots, self.dtype.as_numpy_dtype)

    def write(self, layer: int, places: tf.Tensor, parts: tuple[tf.Tensor, ...]) -> None:
        """Store each part at `places` of its array, in the type of the storage."""
        rows, slots = np.moveaxis(places.numpy(), -1, 0)
        for arrays, part in zip(self.tensors.values(), encode(parts, self.dtype), strict=True):
            arrays[layer][rows, slots] = part.numpy()

    def read(self, layer: int, end: int, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """The first `end` slots of each array, in the type of the model."""
        return decode(tuple(tf.constant(arrays[layer][:, :end]) for arrays in self.tensors.values()), dtype)

    def gather(self, layer: int, places: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, ...]:
        """What is stored at places (B, S) of each array, (B, S, ...), in the type of the model."""
        rows, slots = np.moveaxis(places.numpy(), -1, 0)
        return decode(tuple(tf.constant(arrays[layer][rows, slots]) for arrays in self.tensors.values()), dtype)

    def fill(self, parts: Mapping[str, list[tf.Tensor]], counts: np.ndarray) -> None:
        """Store what `PromptView` collected of each layer, (B, n, ...): in the first n slots, or in a ring.

        counts: (B,), how many positions of each row are real.
        """
        for name, layers in parts.items():
            for array, part in zip(self.tensors[name], layers, strict=True):
                n = part.shape[1]
                if n <= array.shape[1]:
                    array[:, :n] = part.numpy()
                else:
                    rows, columns, slots = ring_places(np.zeros_like(counts), counts, n, array.shape[1])
                    array[rows, slots] = part.numpy()[rows, columns]
