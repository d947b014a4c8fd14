"""A cache as a compiled step sees it: no shape changes from step to step, so that the step is compiled once."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.generation.blockwise import BLOCK, NEVER, Places
from tfguide.generation.views import CallView, WindowPart
from tfguide.torch.cache.encoding import decode, encode
from tfguide.torch.cache.int4 import append


class StaticView(CallView):
    """A compiled step's part of a `KVCache`: all slots, filled or not, and a mask that hides the empty ones.

    tensors: those of the cache's `Storage`, which are written in place; positions: (B, 1), of the new tokens.
    """

    def __init__(self, tensors: dict[str, list[Tensor]], positions: Tensor):
        self.tensors, self.positions = tensors, positions
        self._slots = [tensor.shape[1] for tensor in next(iter(tensors.values()))]
        n_slots = max(self._slots)
        self.key_positions = torch.arange(n_slots, device=positions.device)[None]

    def part(self, slides: bool) -> CallView:
        """The positions of the keys, and what is visible, in layers with a window or in the others."""
        if not slides:
            return self
        ring = min(self._slots)  # the newest position is in its slot already
        return WindowPart(
            self.positions - (self.positions - torch.arange(ring, device=self.positions.device)) % ring
        )  # (B, ring), negative where empty

    def append(self, layer: int, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return all slots, (B, n_slots, K, d), in the same type."""
        rows = torch.arange(len(self.positions), device=self.positions.device)[:, None]
        stored = tuple(tensors[layer] for tensors in self.tensors.values())
        for tensor, part in zip(stored, encode(parts, stored[0].dtype), strict=True):
            tensor[rows, self.positions % tensor.shape[1]] = part
        return decode(stored, parts[0].dtype)


class StaticBlockView(CallView):
    """A compiled step's part of an `Int4KVCache`: all its blocks, and the block of each row's new token.

    In every step the newest block is written in 4 bits too, whole or not: no query reads it before it is whole.
    tensors: those of the cache's storage, which are written in place; positions: (B, 1), of the new tokens.
    """

    def __init__(self, tensors: dict[str, list[Tensor]], positions: Tensor):
        self.tensors, self.positions = tensors, positions
        n_blocks, n_recent = tensors["key"][0].shape[1], tensors["key_recent"][0].shape[1]
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        offsets = torch.arange(BLOCK, device=positions.device)[None]
        row, place = rows[:, 0], positions[:, 0]
        window = positions // BLOCK * BLOCK + offsets  # (B, 32)
        self._places = Places(
            window=(rows, torch.where(window < positions, window % n_recent, n_recent)),
            values=(rows, window),
            new=(rows, positions),
            kept=(row, torch.zeros_like(row)),
            slots=(row, place % n_recent),
            done=(rows, offsets),
            blocks=(row, place // BLOCK),
            n_blocks=n_blocks,
        )
        blocks = torch.arange(n_blocks * BLOCK, device=positions.device).expand(len(positions), -1)
        self.key_positions = torch.cat([blocks, window], dim=1)  # (B, S)
        first = torch.cat([blocks // BLOCK * BLOCK + BLOCK, window], dim=1)
        end = torch.cat([torch.full_like(blocks, NEVER), window // BLOCK * BLOCK + BLOCK], dim=1)
        self._seen = (positions >= first) & (positions < end)

    def visible(self, distance: Tensor) -> Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return self._seen[:, None]

    def append(self, layer: int, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Store new keys and values (B, 1, K, d) and return those in all blocks and in the newest, (B, S, K, d)."""
        return append(self.tensors, layer, self._places, parts)


def static_view(tensors: dict[str, list[Tensor]], positions: Tensor) -> StaticView | StaticBlockView:
    """The view of a cache of any type by its tensors; see `StaticView`."""
    return (StaticBlockView if "key_recent" in tensors else StaticView)(tensors, positions)
