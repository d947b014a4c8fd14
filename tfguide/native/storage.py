"""The arrays of a cache: one (B, n_slots, ...) for each layer and for each cached name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_cache_sizes
from tfguide.generation.rings import by_layer
from tfguide.native.tensors import NUMPY_TYPES


class ArrayStorage:
    """Room for `n_slots` positions of each row in each layer, in NumPy arrays that the C++ kernels read and write.

    n_slots: one number for all layers, or a list.

    `tensors[name][layer]` is `(B, n_slots, *shape)` for every name and shape of `config.cached`; see `empty_arrays`.
    dtype: "float32", "bfloat16", kept as its bits, uint16, since NumPy has no such type, "float16" or "int8".
    Raises ValueError for another type, an encoder and sizes below 1.
    """

    addressable = True  # an array stays where it is

    def __init__(self, config: ModelConfig, batch_size: int, n_slots: int | Sequence[int], dtype: str = "float32"):
        check_choice("dtype", dtype, tuple(NUMPY_TYPES))
        self.dtype, self.tensors = dtype, empty_arrays(config, batch_size, n_slots, NUMPY_TYPES[dtype])

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays, filled or not."""
        return sum(array.nbytes for arrays in self.tensors.values() for array in arrays)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`."""
        for arrays in self.tensors.values():
            arrays[:] = [self.take(array, rows) for array in arrays]

    def take(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows of an array, as a copy."""
        return x[rows]


def empty_arrays(
    config: ModelConfig, batch_size: int, n_slots: int | Sequence[int], dtype: type
) -> dict[str, list[np.ndarray]]:
    """The arrays of a cache by name, one for each layer, filled with 0.

    With int8 each vector of d numbers is integers from -127 to 127 and one scale, float32, in `f"{name}_scale"`.
    Raises ValueError for an encoder and for sizes below 1.
    """
    check_cache_sizes(config, batch_size, None)
    sizes = dict(config.cached)
    types = dict.fromkeys(sizes, dtype)
    if np.dtype(dtype) == np.int8:
        scales = {f"{name}_scale": size[:-1] for name, size in sizes.items()}
        types |= dict.fromkeys(scales, np.float32)
        sizes |= scales
    slots = by_layer(config, n_slots)
    return {name: [np.zeros((batch_size, n, *size), types[name]) for n in slots] for name, size in sizes.items()}
