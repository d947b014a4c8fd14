"""One call on a cache, as the blocks of a model see it: what it writes, and what the new queries may read."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.generation.rings import ring_places, ring_positions


class CallView:
    """One call on a cache, as the blocks of a model see it; a subclass says what `append` keeps and returns.

    `positions`: (B, T), of the new tokens; `key_positions`: (B or 1, S), of the keys, -1 in an empty slot; tensors.
    `is_first`: whether it is known that no row has positions before the new tokens.
    """

    positions: Any
    key_positions: Any
    is_first = False

    def visible(self, distance: Any) -> Any:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return distance >= 0

    def text_lengths(self) -> Any:
        """`text_lengths` of the cache at the new positions, (B, T), a tensor; in a step they are the last ones."""
        return self.positions + 1

    def part(self, slides: bool) -> CallView:
        """The positions of the keys, and what is visible, in layers with a window or in the others."""
        return self

    def layer(self, index: int) -> LayerPart:
        """One layer's part of this call."""
        return LayerPart(self, index)

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        raise NotImplementedError


class View(CallView):
    """One call on a cache whose positions are known: it writes the new positions into the storage."""

    def __init__(self, cache: Any, positions: np.ndarray):
        self._cache, self._storage, self._new = cache, cache.storage, positions
        self._end = int(positions.max()) + 1
        self.is_first = self._end == positions.shape[1]
        self._places = self._find_places()
        self.positions = self._storage.as_tensor(positions)
        self.key_positions = self._storage.as_tensor(self._keys_at())
        self._text_lengths = cache.text_lengths(positions)

    def text_lengths(self) -> Any:
        """`text_lengths` of the cache at the new positions, (B, T), a tensor."""
        return self._storage.as_tensor(self._text_lengths)

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        self._storage.write(layer, self._places, parts)
        return self._storage.read(layer, self._end, parts[0].dtype)

    def cross(self, layer: int, attention: Any, memory: Any) -> tuple[Any, ...]:
        """The keys and values of an encoder's output, computed once in the first call."""
        return self._cache.cross(layer, attention, memory)

    def commit(self, counts: np.ndarray | int) -> None:
        """Mark the new tokens as filled: `counts` of each row, (B,), or one number for all."""
        self._cache.advance(counts)

    def _keys_at(self):
        return np.arange(self._end)[None]

    def _find_places(self):
        return self._storage.places(np.arange(len(self._new))[:, None], self._new)


class WindowView(View):
    """One call on a cache with rings: new queries see what the ring holds and, beside it, the new positions."""

    def __init__(self, cache: Any, positions: np.ndarray, counts: np.ndarray):
        super().__init__(cache, positions)
        starts, storage = positions[:, 0], cache.storage
        self._is_empty = not starts.any()
        held = ring_positions(starts, cache.ring)
        keys = positions if self._is_empty else np.concatenate([held, positions], axis=1)
        self._local = WindowPart(storage.as_tensor(keys))
        *kept, slots = ring_places(starts, counts, positions.shape[1], cache.ring)
        self._kept, self._ring_places = kept, storage.places(kept[0], slots)

    def part(self, slides: bool) -> CallView:
        """The positions of the keys, and what is visible, in layers with a window or in the others."""
        return self._local if slides else self

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        if not self._cache.config.slides(layer):
            return super().append(layer, parts)
        storage, dtype = self._storage, parts[0].dtype
        read = storage.rounded(parts)
        if not self._is_empty:  # what is read may be a view, which the writing below changes
            read = storage.join(storage.read(layer, self._cache.ring, dtype), read)
        storage.write(layer, self._ring_places, tuple(storage.pick(part, *self._kept) for part in parts))
        return read


class WindowPart(CallView):
    """What layers with a window see of a call: `key_positions`, (B, S), -1 in an empty slot."""

    def __init__(self, key_positions: Any):
        self.key_positions = key_positions

    def visible(self, distance: Any) -> Any:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return (distance >= 0) & (self.key_positions[:, None, :] >= 0)


class LayerPart:
    """One layer's part of a call on a cache: the argument of a block."""

    def __init__(self, view: Any, layer: int):
        self._view, self._layer = view, layer

    def append(self, *parts: Any) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        return self._view.append(self._layer, parts)

    def cross(self, attention: Any, memory: Any) -> tuple[Any, ...]:
        """The keys and values of an encoder's output, computed once in the first call."""
        return self._view.cross(self._layer, attention, memory)
