"""KV caches without their tensors: which positions of which row are filled, and what a call on a cache may see.

The tensors are in a storage of the framework (see `tfguide.torch.Storage`), which is passed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.generation.checks import (
    check_cache_sizes,
    check_positions_left,
    check_rings,
    check_room,
    check_rows,
    check_sliding,
    check_storage,
    kept_lengths,
    kept_tensors,
)
from tfguide.generation.rings import layer_slots, ring_slots
from tfguide.generation.views import CallView, View, WindowView


class DenseCache:
    """A cache that stores position p of a row in slot p; `KVCache` of each framework.

    Layers with a window keep a ring, where that takes less memory: see `tfguide.generation.rings`. `ring`: its slots,
    or None.
    `lengths`: int64 (B,), the number of filled positions of each row. `memory`: an encoder's output and its padding
    mask, for a decoder that attends to it; else None. `max_length`: the most positions of a row; None: any number.

    Raises ValueError for an encoder, a size below 1, or a length beyond the model's `max_positions`.
    """

    dense = True  # position p is stored in slot p, or in a ring, as the C++ kernels and compiled steps require
    paged = False
    has_rings = True

    def __init__(
        self, config: ModelConfig, batch_size: int, max_length: int | None, storage: Any, n_slots: int | None = None
    ):
        self.config, self.storage = config, storage
        self.batch_size, self.max_length = check_cache_sizes(config, batch_size, max_length)
        self.ring = ring_slots(config, self.max_length) if self.has_rings else None
        if storage is not None:
            check_storage(storage, config, self.batch_size, self._slots(n_slots))
        self.lengths = np.zeros(self.batch_size, np.int64)
        self._begun = np.zeros(self.batch_size, np.int64)  # the length of each row's prompt, 0: not known yet
        self._longest = self.lengths  # that each row ever had: what lies in its rings
        self.memory: tuple[Any, Any] | None = None
        self._crossed: list[Any] = [None] * config.n_layers  # each layer's keys and values of the memory

    def _slots(self, n_slots):
        """The slots of each layer: n_slots if they are given."""
        if n_slots is None and self.ring is not None:
            return layer_slots(self.config, self.max_length)
        return [n_slots or self.max_length] * self.config.n_layers

    @property
    def keys(self) -> list[Any]:
        """The keys of each layer, as the storage holds them. Raises ValueError where a cache keeps none (latents)."""
        return kept_tensors(self.storage.tensors, "key")

    @property
    def values(self) -> list[Any]:
        """The values of each layer, as the storage holds them. Raises ValueError where a cache keeps none (latents)."""
        return kept_tensors(self.storage.tensors, "value")

    @property
    def key_scales(self) -> list[Any] | None:
        """The scale of each key vector, float32 (B, max_length, K), of each layer of an int8 cache; else None."""
        return self.storage.tensors.get("key_scale")

    @property
    def value_scales(self) -> list[Any] | None:
        """The scale of each value vector, float32 (B, max_length, K), of each layer of an int8 cache; else None."""
        return self.storage.tensors.get("value_scale")

    @property
    def nbytes(self) -> int:
        """The bytes of the keys, values and scales, filled or not; those of an encoder's output are not counted."""
        return self.storage.nbytes

    def check_room(self, n_tokens: int | np.ndarray) -> None:
        """Raises ValueError if `n_tokens` more tokens of each row, one number or (B,), do not fit."""
        row = int((self.lengths + n_tokens).argmax())
        more = n_tokens if np.ndim(n_tokens) == 0 else n_tokens[row]
        check_room(int(self.lengths[row]), int(more), self.max_length)

    def extend(self, n_tokens: int, counts: np.ndarray | int | None = None) -> CallView:
        """A call that adds `n_tokens` tokens to each row. Raises ValueError if they do not fit.

        counts: how many of them are real, (B,) or one number; default: all. Padding is written too, but not to a ring.
        """
        self.check_room(n_tokens)
        self.begin(n_tokens if counts is None else counts, only_empty=True)
        positions = self.lengths[:, None] + np.arange(n_tokens)
        if self.ring is None:
            return View(self, positions)
        return WindowView(self, positions, np.broadcast_to(n_tokens if counts is None else counts, self.lengths.shape))

    def begin(self, counts: np.ndarray | int, only_empty: bool = False) -> None:
        """Announce a prompt of `counts` tokens for each row, (B,) or one number, whatever the calls that read it.

        It tells a scaling of rotary positions how long the text is: see `scaled_by_length` of `tfguide.frequencies`.
        only_empty: not for rows that have positions or a prompt already; their next tokens are no prompt.
        """
        ends = self.lengths + np.asarray(counts, np.int64)
        self._begun = np.where((self.lengths + self._begun > 0) & only_empty, self._begun, ends)

    def text_lengths(self, positions: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """The length of the text for which each position, (B, T), is rotated: its own, but a prompt's for all of it.

        rows: whose positions they are, of the same shape; default: row i has the positions i.
        """
        return np.maximum(positions + 1, self._begun[:, None] if rows is None else self._begun[rows])

    def advance(self, counts: np.ndarray | int) -> None:
        """Mark tokens that were just written as filled: `counts` of each row, (B,), or one number for all."""
        self.lengths = self.lengths + np.asarray(counts, np.int64)
        self._longest = np.maximum(self._longest, self.lengths)

    def rewind(self, lengths: np.ndarray | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError if a row would become longer, or shorter than 0, or needs positions that a ring has
        overwritten.
        """
        kept = kept_lengths(lengths, self.lengths)
        if self.ring is not None:
            check_rings(kept, self.lengths, self._longest, self.config.sliding_window, self.ring)
        self.lengths = kept
        self._begun = np.minimum(self._begun, self.lengths)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`, rows (B,) of any new number B: the step of a beam search.

        Raises TypeError for rows that are not integers, ValueError for a row that does not exist.
        """
        rows = check_rows(rows, self.batch_size)
        self.storage.reorder(rows)
        self.batch_size, self.lengths = len(rows), self.lengths[rows]
        self._begun, self._longest = self._begun[rows], self._longest[rows]
        take = self.storage.take
        self._crossed = [None if parts is None else tuple(take(x, rows) for x in parts) for parts in self._crossed]
        if self.memory is not None:
            self.memory = tuple(None if x is None else take(x, rows) for x in self.memory)

    def remember(self, memory: Any, valid: Any) -> None:
        """Keep an encoder's output (B, S, D) and its padding mask (B, S), or None, for the decoder's steps."""
        self.memory = memory, valid
        self._crossed = [None] * self.config.n_layers

    def cross(self, layer: int, attention: Any, memory: Any) -> tuple[Any, ...]:
        """The keys and values of an encoder's output, (B, S, K, d): they never change, so they are computed once."""
        if self._crossed[layer] is None:
            self._crossed[layer] = attention.keys_values(memory)
        return self._crossed[layer]


class RingCache(DenseCache):
    """A cache of the last `window` positions and the first `n_sinks`; `SlidingCache` of each framework.

    Each sink has its own slot; another position p is stored in slot `n_sinks + (p - n_sinks) % window`.
    `ring`: (B, window + n_sinks), the position in each slot, -1 where it is empty.
    Raises ValueError for a window below 1, fewer than 0 sinks, or a model with a different window.
    """

    dense, has_rings = False, False

    def __init__(self, config: ModelConfig, batch_size: int, window: int, n_sinks: int, storage: Any):
        self.window, self.n_sinks = check_sliding(config, window, n_sinks)
        super().__init__(config, batch_size, config.max_positions, storage, self.window + self.n_sinks)
        self.ring = np.full((self.batch_size, self.window + self.n_sinks), -1, np.int64)

    def check_room(self, n_tokens: int) -> None:
        """Raises ValueError if `n_tokens` more tokens of each row exceed the model's own positions."""
        check_positions_left(self.config, int(self.lengths.max()), n_tokens)

    def extend(self, n_tokens: int, counts: np.ndarray | int | None = None) -> View:
        """A call that adds `n_tokens` tokens to each row. Raises ValueError beyond the model's own positions.

        counts: how many of them are real, (B,) or one number; `View.commit` is told again.
        """
        self.check_room(n_tokens)
        self.begin(n_tokens if counts is None else counts, only_empty=True)
        return _RingView(self, self.lengths[:, None] + np.arange(n_tokens))

    def rewind(self, lengths: np.ndarray | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError if a row would become longer or shorter than 0, or needs positions that the ring has
        overwritten.
        """
        self.lengths = kept_lengths(lengths, self.lengths, self.window, self.n_sinks)
        self._begun = np.minimum(self._begun, self.lengths)
        self.ring = np.where(self.ring >= self.lengths[:, None], -1, self.ring)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`, rows (B,) of any new number B: the step of a beam search."""
        super().reorder(rows)
        self.ring = self.ring[np.asarray(rows)]

    def place(self, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Assign slots to the new positions (B, T) that stay: their rows, columns and slots, (n,) each.

        Padding, at or beyond a row's length, evicts nothing from the ring.
        """
        lengths = self.lengths[:, None]
        stays = (new < lengths) & ((new >= lengths - self.window) | (new < self.n_sinks))
        rows, columns = stays.nonzero()
        kept = new[rows, columns]
        slots = np.where(kept < self.n_sinks, kept, self.n_sinks + (kept - self.n_sinks) % self.window)
        self.ring[rows, slots] = kept
        return rows, columns, slots


class _RingView(View):
    def __init__(self, cache, positions):
        super().__init__(cache, positions)
        self._parts: dict[int, tuple[Any, ...]] = {}

    def _keys_at(self):
        return np.concatenate([self._cache.ring, self._new], axis=1)

    def visible(self, distance: Any) -> Any:
        keys, cache = self.key_positions[:, None, :], self._cache  # (B, 1, S)
        return (distance >= 0) & (keys >= 0) & ((distance < cache.window) | (keys < cache.n_sinks))

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        self._parts[layer] = parts
        kept = self._storage.read(layer, self._cache.ring.shape[1], parts[0].dtype)
        return self._storage.join(kept, parts)

    def commit(self, counts: np.ndarray | int) -> None:
        super().commit(counts)
        # Only now is it known which tokens are real: padding must not evict anything from the ring.
        rows, columns, slots = self._cache.place(self._new)
        places = self._storage.places(rows, slots)
        for layer, parts in self._parts.items():
            self._storage.write(layer, places, tuple(self._storage.pick(part, rows, columns) for part in parts))
