"""The KV cache: the keys and values of every position seen so far, so that a step computes those of new tokens only."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.config import ModelConfig
from tfguide.generation.caching import check_cache_sizes, check_positions_left, check_room, check_sliding, kept_lengths
from tfguide.torch.attention import as_tensor


class KVCache:
    """Room for `max_length` positions of each row in each layer, allocated once; passed in, never hidden in a model.

    `keys[layer]`, `values[layer]`: (B, max_length, K, d); `lengths`: (B,), how many positions of each row are filled.
    A row's position p stands in slot p. Rows may differ in length: what padding writes beyond a row's length is
    overwritten by its next token before a query can look at it. dtype: the framework's, or its name.

    Raises ValueError for an encoder, a size below 1, or a length beyond the model's `max_positions`.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, dtype=torch.float32, device=None):
        batch_size, max_length = check_cache_sizes(config, batch_size, max_length)
        self.config, self.batch_size, self.max_length = config, batch_size, max_length
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.memory: tuple[Tensor, Tensor | None] | None = None  # an encoder's output and which of it is valid
        self._cross: list[tuple[Tensor, Tensor] | None] = [None] * config.n_layers
        self._allocate(max_length, dtype, device)

    def _allocate(self, n_slots, dtype, device):
        shape = (self.batch_size, n_slots, self.config.n_kv_heads, self.config.d_head)
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(self.config.n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(self.config.n_layers)]

    def _tensors(self):
        """The lists of tensors, one for each layer, whose first axis is that of the rows."""
        return [self.keys, self.values]

    @property
    def nbytes(self) -> int:
        """The bytes of the keys and values, filled or not; an encoder's are not counted."""
        return sum(tensor.nbytes for tensors in self._tensors() for tensor in tensors)

    @property
    def holds_nothing(self) -> bool:
        """Whether no row has a position yet, and queries see what comes with them only."""
        return int(self.lengths.max()) == 0

    def positions(self, n_tokens: int) -> Tensor:
        """Where the next `n_tokens` of each row stand: (B, T). Raises ValueError where they do not fit."""
        check_room(int(self.lengths.max()), n_tokens, self.max_length)
        return self.lengths[:, None] + torch.arange(n_tokens, device=self.lengths.device)

    def key_positions(self, positions: Tensor) -> Tensor:
        """Where the keys stand that queries at `positions` (B, T) are given: (B or 1, S); -1 where there is none."""
        return torch.arange(int(positions.max()) + 1, device=positions.device)[None]

    def visible(self, distance: Tensor, key_positions: Tensor) -> Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        return distance >= 0

    def advance(self, counts: Tensor | int) -> None:
        """Count the tokens just written as filled: `counts` of each row, (B,) or one number for all."""
        self.lengths = self.lengths + counts

    def rewind(self, lengths: Tensor | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError where a row would become longer, or shorter than 0.
        """
        kept = kept_lengths(lengths, self.lengths.cpu().numpy())
        self.lengths = torch.as_tensor(kept, device=self.lengths.device)

    def reorder(self, rows: Tensor) -> None:
        """Let row i become what row `rows[i]` was, rows (B,) of any new number B: the step of a beam search."""
        rows = as_tensor(rows, self.lengths.device).long()
        for tensors in self._tensors():
            tensors[:] = [tensor[rows] for tensor in tensors]
        self.batch_size = len(rows)
        self.lengths = self.lengths[rows]
        self._cross = [None if pair is None else tuple(x[rows] for x in pair) for pair in self._cross]
        if self.memory is not None:
            self.memory = tuple(None if x is None else x[rows] for x in self.memory)

    def layer(self, index: int, positions: Tensor) -> _LayerCache:
        """One layer's part, ready to write at `positions` (B, T)."""
        return _LayerCache(self, index, positions)

    def _append(self, index, positions, key, value):
        keys, values = self.keys[index], self.values[index]
        end = int(positions.max()) + 1
        if len(keys) == 1:  # one row: its tokens lie side by side
            keys[0, end - key.shape[1] : end] = key[0]
            values[0, end - key.shape[1] : end] = value[0]
        else:
            rows = torch.arange(len(keys), device=keys.device)[:, None]  # (B, 1)
            keys[rows, positions] = key.to(keys.dtype)
            values[rows, positions] = value.to(values.dtype)
        return keys[:, :end].to(key.dtype), values[:, :end].to(value.dtype)  # the cache may have a type of its own


class QuantizedKVCache(KVCache):
    """A `KVCache` of 8 bits: each key and value vector of d numbers is integers from -127 to 127 and one scale.

    `keys[layer]`, `values[layer]`: int8 (B, max_length, K, d); `key_scales`, `value_scales`: float32, without d. A
    number is wrong by at most half a scale, the largest magnitude of its vector / 254. Attention gets the numbers
    back in the type of the model.
    """

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, device=None):
        super().__init__(config, batch_size, max_length, torch.int8, device)

    def _allocate(self, n_slots, dtype, device):
        super()._allocate(n_slots, dtype, device)
        shape = (self.batch_size, n_slots, self.config.n_kv_heads)
        self.key_scales = [torch.zeros(shape, device=device) for _ in range(self.config.n_layers)]
        self.value_scales = [torch.zeros(shape, device=device) for _ in range(self.config.n_layers)]

    def _tensors(self):
        return [*super()._tensors(), self.key_scales, self.value_scales]

    def _append(self, index, positions, key, value):
        key_scale, value_scale = (x.abs().amax(dim=-1).float() / 127 for x in (key, value))  # (B, T, K)
        integers = (
            torch.round(x.float() / scale.masked_fill(scale == 0, 1)[..., None])
            for x, scale in ((key, key_scale), (value, value_scale))
        )
        keys, values = super()._append(index, positions, *integers)
        rows = torch.arange(self.batch_size, device=keys.device)[:, None]
        self.key_scales[index][rows, positions] = key_scale
        self.value_scales[index][rows, positions] = value_scale
        end = keys.shape[1]
        return (
            (keys * self.key_scales[index][:, :end, :, None]).to(key.dtype),
            (values * self.value_scales[index][:, :end, :, None]).to(value.dtype),
        )


class SlidingCache(KVCache):
    """A cache of constant size: the last `window` positions in a ring, and the first `n_sinks` for ever.

    A query sees itself, the `window - 1` positions before it, and the sinks, however long the text; with n_sinks = 0
    and a model of that `sliding_window` the result is the model's own. Positions stay those of the text: a rotated key
    keeps its rotation. StreamingLLM counts positions within the cache instead, which helps a model far beyond the
    lengths it was trained on. Source: Xiao et al. 2024, "Efficient Streaming Language Models with Attention Sinks".

    Raises ValueError for a window below 1, fewer than 0 sinks, or a model with another window of its own.
    """

    def __init__(
        self, config: ModelConfig, batch_size: int, window: int, n_sinks: int = 0, dtype=torch.float32, device=None
    ):
        window, n_sinks = check_sliding(config, window, n_sinks)
        self.window, self.n_sinks = window, n_sinks
        super().__init__(config, batch_size, 1, dtype, device)
        self._allocate(window + n_sinks, dtype, device)
        self.max_length = config.max_positions  # the text is as long as the model can read
        self._slots = torch.full((batch_size, window + n_sinks), -1, device=device)  # the position in each slot
        self._new: dict[int, tuple[Tensor, Tensor]] = {}
        self._new_positions: Tensor | None = None

    def positions(self, n_tokens: int) -> Tensor:
        """Where the next `n_tokens` of each row stand: (B, T). Raises ValueError beyond the model's own positions."""
        check_positions_left(self.config, int(self.lengths.max()), n_tokens)
        return self.lengths[:, None] + torch.arange(n_tokens, device=self.lengths.device)

    def key_positions(self, positions: Tensor) -> Tensor:
        """Where the keys stand that queries at `positions` (B, T) are given: (B or 1, S); -1 where there is none."""
        return torch.cat([self._slots, positions], dim=1)

    def visible(self, distance: Tensor, key_positions: Tensor) -> Tensor:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        keys = key_positions[:, None, :]  # (B, 1, S)
        return (distance >= 0) & (keys >= 0) & ((distance < self.window) | (keys < self.n_sinks))

    def advance(self, counts: Tensor | int) -> None:
        """Count the tokens just written as filled: `counts` of each row, (B,) or one number for all."""
        super().advance(counts)
        # Only now is it known which tokens are real: padding must not push anything out of the ring.
        positions, lengths = self._new_positions, self.lengths[:, None]
        stays = (positions < lengths) & ((positions >= lengths - self.window) | (positions < self.n_sinks))
        rows, columns = stays.nonzero(as_tuple=True)
        positions = positions[rows, columns]
        ring = self.n_sinks + (positions - self.n_sinks) % self.window
        slots = torch.where(positions < self.n_sinks, positions, ring)
        self._slots[rows, slots] = positions
        for index, (key, value) in self._new.items():
            self.keys[index][rows, slots] = key[rows, columns].to(self.keys[index].dtype)
            self.values[index][rows, slots] = value[rows, columns].to(self.values[index].dtype)
        self._new, self._new_positions = {}, None

    def rewind(self, lengths: Tensor | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        Raises ValueError where a row would become longer or shorter than 0, or needs positions that the ring has
        overwritten.
        """
        kept = kept_lengths(lengths, self.lengths.cpu().numpy(), self.window, self.n_sinks)
        self.lengths = torch.as_tensor(kept, device=self.lengths.device)
        self._slots = self._slots.masked_fill(self._slots >= self.lengths[:, None], -1)

    def reorder(self, rows: Tensor) -> None:
        """Let row i become what row `rows[i]` was, rows (B,) of any new number B: the step of a beam search."""
        super().reorder(rows)
        self._slots = self._slots[as_tensor(rows, self._slots.device).long()]

    def _append(self, index, positions, key, value):
        self._new[index], self._new_positions = (key, value), positions
        keys, values = self.keys[index].to(key.dtype), self.values[index].to(value.dtype)
        return torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)


class _LayerCache:
    def __init__(self, cache, index, positions):
        self._cache, self._index, self._positions = cache, index, positions

    def append(self, key, value):
        """Keep new keys and values (B, T, K, d); all that the new queries may see, (B, S, K, d)."""
        return self._cache._append(self._index, self._positions, key, value)

    def cross(self, attention, memory):
        """The keys and values of an encoder's output, (B, S, K, d): they never change, so they are computed once."""
        cross = self._cache._cross
        if cross[self._index] is None:
            cross[self._index] = attention.keys_values(memory)
        return cross[self._index]
