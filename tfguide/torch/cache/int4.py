"""The 4-bit KV cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.blockwise import BLOCK, BlockCache, Places, tensor_sizes
from tfguide.generation.checks import check_cache_sizes
from tfguide.torch.cache.encoding import encode
from tfguide.torch.cache.levels import from_levels, pack, to_groups, to_levels, unpack
from tfguide.torch.cache.storage import Storage


class Int4Storage(Storage):
    """The tensors of an `Int4KVCache`, by name and layer. Steps and minima are float16.

    "key": levels, uint8 (B, blocks, 32, K, d / 2); "key_step", "key_minimum": (B, blocks, K, d); "key_recent": float16
    (B, n, K, d), position p in slot p % n; "value": levels, uint8 (B, positions, K, d / 2); "value_step",
    "value_minimum": (B, positions, K, groups). A half of an odd d is rounded up.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, device=None):
        super().__init__(config, batch_size, max_length, torch.uint8, device)
        self.addressable = False  # the C++ kernels do not read 4 bits

    def append(self, layer: int, places: Places, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Store new keys and values (B, T, K, d); return those that the call reads, (B, S, K, d), see `bounds`."""
        return append(self.tensors, layer, places, parts)

    def restore(self, rows: np.ndarray, positions: np.ndarray) -> None:
        """Put the 4-bit keys at rows and positions (n,) where the recent keys of these positions are kept."""
        n_recent = self.tensors["key_recent"][0].shape[1]
        blocks, places = self.index(rows, positions // BLOCK), self.index(rows, positions // BLOCK, positions % BLOCK)
        slots = self.index(rows, positions % n_recent)
        for key, step, minimum, recent in zip(*self._of_keys(), strict=True):
            levels = unpack(key[places], recent.shape[-1])
            keys = from_levels(levels[:, None], step[blocks], minimum[blocks], 1)[:, 0]
            recent[slots] = keys.half()

    def index(self, *arrays: np.ndarray) -> tuple[Tensor, ...]:
        """Arrays of integers that broadcast, one for each axis, as an index."""
        return tuple(self.as_tensor(array) for array in arrays)

    def _of_keys(self):
        return (self.tensors[name] for name in ("key", "key_step", "key_minimum", "key_recent"))

    def _sizes(self, config, batch_size, n_slots):
        sizes = tensor_sizes(config, batch_size, n_slots)
        return {name: (size, getattr(torch, kind)) for name, (size, kind) in sizes.items()}


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

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, device=None):
        sizes = check_cache_sizes(config, batch_size, check_count("max_length", max_length))
        super().__init__(config, *sizes, Int4Storage(config, *sizes, device))


def append(tensors: dict[str, list[Tensor]], layer: int, places: Places, parts: tuple[Tensor, ...]):
    """Write new keys and values (B, T, K, d) to the tensors of a layer; return those that the call reads."""
    of = {name: layers[layer] for name, layers in tensors.items()}
    key, value = encode(parts, torch.float16)
    window = torch.cat([of["key_recent"], key], dim=1)[places.window]  # (B, W, K, d)
    of["key_recent"][places.slots] = key[places.kept]
    if places.blocks is not None:
        levels, of["key_step"][places.blocks], of["key_minimum"][places.blocks] = to_levels(window[places.done], 1)
        of["key"][places.blocks] = pack(levels)
    levels, of["value_step"][places.new], of["value_minimum"][places.new] = to_levels(to_groups(value), -1)
    of["value"][places.new] = pack(levels.flatten(-2)[..., : value.shape[-1]])

    older = {name: x[:, : places.n_blocks] for name, x in of.items()}
    levels = unpack(older["key"], key.shape[-1])
    keys = from_levels(levels, older["key_step"], older["key_minimum"], 2).flatten(1, 2)  # (B, blocks * 32, K, d)
    end = BLOCK * places.n_blocks + BLOCK
    levels = to_groups(unpack(of["value"][:, :end], value.shape[-1]))
    values = from_levels(levels, of["value_step"][:, :end], of["value_minimum"][:, :end], -1)
    values = values.flatten(-2)[..., : value.shape[-1]]  # (B, positions, K, d)
    dtype = parts[0].dtype
    return (
        torch.cat([keys.to(dtype), window.to(dtype)], dim=1),
        torch.cat([values[:, : end - BLOCK], values[places.values]], dim=1).to(dtype),
    )
