"""The 8-bit KV cache."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.config import ModelConfig
from tfguide.torch.cache.dense import KVCache
from tfguide.torch.cache.storage import Storage


class QuantizedStorage(Storage):
    """A `Storage` that keeps each vector of d numbers as integers from -127 to 127 and one scale, `NAME_scale`."""

    def __init__(self, config: ModelConfig, batch_size: int, n_slots: int, device=None):
        super().__init__(config, batch_size, n_slots, torch.int8, device)
        self.addressable = False  # the C++ kernels read no scales
        self._names = tuple(self.tensors)
        for name in self._names:
            shapes = [tensor.shape[:-1] for tensor in self.tensors[name]]
            self.tensors[f"{name}_scale"] = [torch.zeros(shape, device=device) for shape in shapes]

    def write(self, layer: int, places: tuple, parts: tuple[Tensor, ...]) -> None:
        """Round each part (..., d) to integers and a scale, and store them at `places`."""
        for name, part in zip(self._names, parts, strict=True):
            part = part.float()
            scale = part.abs().amax(dim=-1) / 127
            integers = torch.round(part / scale.masked_fill(scale == 0, 1)[..., None])
            self.tensors[name][layer][places] = integers.to(torch.int8)
            self.tensors[f"{name}_scale"][layer][places] = scale

    def read(self, layer: int, end: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The first `end` slots of each tensor, dequantised, in the type of the model."""
        return tuple(
            (self.tensors[name][layer][:, :end] * self.tensors[f"{name}_scale"][layer][:, :end, ..., None]).to(dtype)
            for name in self._names
        )


class QuantizedKVCache(KVCache):
    """An 8-bit `KVCache`: it keeps each key and value vector of d numbers as integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32 (B, max_length,
    K). The error of a number is at most half a scale, the largest magnitude of its vector / 254. Attention reads the
    numbers in the type of the model. Raises as `KVCache`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, device=None):
        super().__init__(
            config, batch_size, max_length, storage=QuantizedStorage(config, batch_size, max_length, device)
        )

    @property
    def key_scales(self) -> list[Tensor]:
        """The scale of each key vector, (B, max_length, K), of each layer."""
        return self.storage.tensors["key_scale"]

    @property
    def value_scales(self) -> list[Tensor]:
        """The scale of each value vector, (B, max_length, K), of each layer."""
        return self.storage.tensors["value_scale"]
