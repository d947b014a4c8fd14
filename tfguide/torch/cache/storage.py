"""The tensors of a cache: one (B, n_slots, ...) for each layer and for each cached name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tfguide.config import ModelConfig
from tfguide.generation.checks import check_cache_sizes
from tfguide.generation.rings import by_layer
from tfguide.torch.cache.encoding import decode, encode


class Storage:
    """Room for `n_slots` positions of each row in each layer, or for those of a list by layer, allocated once.

    `tensors[name][layer]`: `(B, n_slots, *shape)`, for every name and shape of `config.cached`. With dtype int8 each
    vector of d numbers is integers from -127 to 127 and one scale, float32, in `tensors[f"{name}_scale"][layer]`.
    dtype: the framework's, or its name. Raises ValueError for an encoder and for sizes below 1.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        n_slots: int | Sequence[int],
        dtype: torch.dtype | str = torch.float32,
        device=None,
    ):
        check_cache_sizes(config, batch_size, None)
        self.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.device = torch.device("cpu" if device is None else device)
        self.addressable = self.device.type == "cpu"  # whether the C++ kernels can read and write the memory
        layers = [self._sizes(config, batch_size, slots) for slots in by_layer(config, n_slots)]
        self.tensors = {
            name: [torch.zeros(size, dtype=kind, device=device) for size, kind in (layer[name] for layer in layers)]
            for name in layers[0]
        }

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, filled or not."""
        return sum(tensor.nbytes for tensors in self.tensors.values() for tensor in tensors)

    def as_tensor(self, array: np.ndarray) -> Tensor:
        """An array of integers as a tensor, on the device of the storage."""
        return torch.from_numpy(array).to(self.device)

    def places(self, rows: np.ndarray, slots: np.ndarray) -> tuple:
        """Rows and slots, which broadcast, as the index that `write` takes."""
        if slots.ndim == 2 and len(slots) == 1:  # one row of consecutive slots
            return slice(None), slice(int(slots[0, 0]), int(slots[0, -1]) + 1)
        return self.as_tensor(rows), self.as_tensor(slots)

    def index(self, rows: np.ndarray, slots: np.ndarray) -> tuple:
        """Rows and slots of one shape as the index that `write` and `gather` take."""
        return self.as_tensor(rows), self.as_tensor(slots)

    def write(self, layer: int, places: tuple, parts: tuple[Tensor, ...]) -> None:
        """Store each part at `places` of its tensor, in the type of the storage."""
        for tensors, part in zip(self.tensors.values(), encode(parts, self.dtype), strict=True):
            tensors[layer][places] = part

    def read(self, layer: int, end: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The first `end` slots of each tensor, in the type of the model."""
        return decode(tuple(tensors[layer][:, :end] for tensors in self.tensors.values()), dtype)

    def gather(self, layer: int, places: tuple, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """What is stored at places (B, S) of each tensor, (B, S, ...), in the type of the model."""
        return decode(tuple(tensors[layer][places] for tensors in self.tensors.values()), dtype)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`."""
        self.tensors = {name: [self.take(x, rows) for x in layers] for name, layers in self.tensors.items()}

    def take(self, x: Tensor, rows: np.ndarray) -> Tensor:
        """The rows of a tensor."""
        return x[self.as_tensor(rows)]

    def pick(self, x: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        """The entries (n, ...) of a tensor (B, T, ...) at rows and columns (n,)."""
        return x[self.as_tensor(rows), self.as_tensor(columns)]

    def join(self, kept: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The kept positions followed by the new ones, for each tensor."""
        return tuple(torch.cat(pair, dim=1) for pair in zip(kept, new, strict=True))

    def rounded(self, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each part as it is read after it is written."""
        return decode(encode(parts, self.dtype), parts[0].dtype)

    def _sizes(self, config, batch_size, n_slots):
        """The size and the type of each tensor of a layer, by its name."""
        sizes = {name: ((batch_size, n_slots, *shape), self.dtype) for name, shape in config.cached.items()}
        if self.dtype == torch.int8:
            sizes |= {f"{name}_scale": (size[:-1], torch.float32) for name, (size, _) in sizes.items()}
        return sizes
