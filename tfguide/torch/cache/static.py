"""A cache as a compiled step sees it: no shape changes from step to step, so that the step is compiled once."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.generation.caching import CallView
from tfguide.torch.cache.encoding import decode, encode


class StaticView(CallView):
    """A compiled step's part of a `KVCache`: all slots, filled or not, and a mask that hides the empty ones.

    tensors: those of the cache's `Storage`, which are written in place; positions: (B, 1), of the new tokens.
    """

    def __init__(self, tensors: dict[str, list[Tensor]], positions: Tensor):
        self.tensors, self.positions = tensors, positions
        n_slots = next(iter(tensors.values()))[0].shape[1]
        self.key_positions = torch.arange(n_slots, device=positions.device)[None]

    def append(self, layer: int, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return all slots, (B, max_length, K, d), in the same type."""
        rows = torch.arange(len(self.positions), device=self.positions.device)[:, None]
        stored = tuple(tensors[layer] for tensors in self.tensors.values())
        for tensor, part in zip(stored, encode(parts, stored[0].dtype), strict=True):
            tensor[rows, self.positions] = part
        return decode(stored, parts[0].dtype)
