"""A 4-bit KV cache without its tensors: where each key is kept, and which of its two versions a query reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.generation.caching import DenseCache
from tfguide.generation.checks import kept_lengths
from tfguide.generation.views import CallView

BLOCK = 32  # positions whose keys share a step and a minimum in each channel
RECENT = 2 * BLOCK  # positions whose keys are kept in float16 too: the newest block, and the one before it
GROUP = 32  # the most features of a value that share a step and a minimum
NEVER = 2**31 - 1  # a position that no query reaches


def count_blocks(max_length: int) -> int:
    """The blocks that hold `max_length` positions, the last one perhaps in part."""
    return -(-max_length // BLOCK)


def count_recent(max_length: int) -> int:
    """The positions for which a cache of `max_length` has room in float16."""
    return min(RECENT, BLOCK * count_blocks(max_length))


def group_sizes(d_head: int) -> tuple[int, int]:
    """The groups of a value vector: how many, and their size; the last may have fewer features.

    >>> group_sizes(64), group_sizes(10), group_sizes(80)
    ((2, 32), (1, 10), (3, 27))
    """
    n = -(-d_head // GROUP)
    return n, -(-d_head // n)


def tensor_sizes(config: ModelConfig, batch_size: int, max_length: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """The size and the type of each tensor of a layer by its name: see `Int4KVCache` of each framework.

    Of latent attention the rotated part is the key, and the latent the value.
    """
    (K, d), (_, d_v) = config.cached.values()
    n_blocks, half, half_v = count_blocks(max_length), -(-d // 2), -(-d_v // 2)
    channels, groups = (batch_size, n_blocks, K, d), (batch_size, n_blocks * BLOCK, K, group_sizes(d_v)[0])
    return {
        "key": ((batch_size, n_blocks, BLOCK, K, half), "uint8"),
        "key_step": (channels, "float16"),
        "key_minimum": (channels, "float16"),
        "key_recent": ((batch_size, count_recent(max_length), K, d), "float16"),
        "value": ((batch_size, n_blocks * BLOCK, K, half_v), "uint8"),
        "value_step": (groups, "float16"),
        "value_minimum": (groups, "float16"),
    }


class BlockCache(DenseCache):
    """A cache whose keys are quantised in blocks of 32 positions; `Int4KVCache` of each framework.

    A block is quantised when its last position is filled. A query reads the keys of its own block in float16 and those
    of the blocks before it in 4 bits, so that what it reads does not depend on how the text is split into calls.
    `recent`: int64 (B, n), the position whose float16 key is in each slot, -1 where there is none. Raises as
    `DenseCache`.
    """

    has_rings = False

    def __init__(self, config: ModelConfig, batch_size: int, max_length: int, storage: Any):
        super().__init__(config, batch_size, max_length, None)
        self.storage = storage
        self.recent = np.full((self.batch_size, count_recent(self.max_length)), -1, np.int64)

    def extend(self, n_tokens: int, counts: np.ndarray | int | None = None) -> CallView:
        """A call that adds `n_tokens` tokens to each row. Raises ValueError if they do not fit.

        counts: how many of them are real, (B,) or one number; default: all. Padding stays out of the blocks.
        """
        self.check_room(n_tokens)
        counts = np.broadcast_to(n_tokens if counts is None else counts, self.lengths.shape)
        self.begin(counts, only_empty=True)
        return BlockView(self, n_tokens, counts)

    def advance(self, counts: np.ndarray | int) -> None:
        """Mark tokens that were just written as filled: `counts` of each row, (B,), or one number for all."""
        rows, positions = newest(self.lengths, np.broadcast_to(counts, self.lengths.shape), self.recent.shape[1])
        self.recent[rows, positions % self.recent.shape[1]] = positions
        super().advance(counts)

    def rewind(self, lengths: np.ndarray | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows.

        A row's last block is then incomplete again, and its keys are read in float16. Up to 32 positions can be
        forgotten without a trace. Further back, float16 keys have been overwritten: the 4-bit ones take their place,
        and are rounded a second time when the block is full again. Raises ValueError if a row would become longer, or
        shorter than 0.
        """
        kept = kept_lengths(lengths, self.lengths)
        offsets = np.arange(BLOCK)
        positions = (kept // BLOCK * BLOCK)[:, None] + offsets  # of each row's last block
        slots = positions % self.recent.shape[1]
        lost = (positions < kept[:, None]) & (np.take_along_axis(self.recent, slots, axis=1) != positions)
        rows, columns = lost.nonzero()
        if len(rows):
            self.storage.restore(rows, positions[rows, columns])
            self.recent[rows, slots[rows, columns]] = positions[rows, columns]
        self.lengths, self._begun = kept, np.minimum(self._begun, kept)

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`, rows (B,) of any new number B: the step of a beam search."""
        super().reorder(rows)
        self.recent = self.recent[np.asarray(rows)]


@dataclass(frozen=True)
class Places:
    """Where a call on a `BlockCache` reads and writes, as indices of the framework (see `index` of its storage).

    The window of a row is the float16 keys from the start of the block of its first new token to its last new token.
    """

    window: Any  # (B, W), of the keys of the window among the recent ones and the new ones behind them
    values: Any  # (B, W), of the values of the window in the cache
    new: Any  # (B, T), of the new values in the cache
    kept: Any  # (n,), of the new keys to keep in float16
    slots: Any  # (n,), where they are kept
    done: Any  # (n, 32), of the keys in the window that make a whole block
    blocks: Any  # (n,), where these blocks are kept; None: no block is whole
    n_blocks: int  # that are read


class BlockView(CallView):
    """One call on a `BlockCache` whose positions are known: it writes them, and reads each key in its right version."""

    def __init__(self, cache: BlockCache, n_tokens: int, counts: np.ndarray):
        self._cache, self._storage = cache, cache.storage
        filled, columns = cache.lengths[:, None], np.arange(n_tokens)
        positions = filled + columns  # (B, T)
        self._text_lengths = cache.text_lengths(positions)
        self.is_first = not cache.lengths.any()
        starts = filled // BLOCK * BLOCK
        width = int((filled - starts).max()) + n_tokens
        window = starts + np.arange(width)  # (B, W), positions
        there = window < filled + n_tokens
        n_blocks = int(positions.max()) // BLOCK
        self._places = self._find_places(positions, window, there, counts, n_blocks)
        if (filled == filled[0]).all():  # all rows alike
            window, there = window[:1], there[:1]
        first, end, keys = bounds(n_blocks, np.where(there, window, -1))
        self.positions, self.key_positions = (self._storage.as_tensor(x) for x in (positions, keys))
        self._first, self._end = (self._storage.as_tensor(x)[:, None] for x in (first, end))  # (B or 1, 1, S)

    def visible(self, distance: Any) -> Any:
        """Which keys a query may see by `distance` = query - key, (B, T, S): boolean (B, T, S)."""
        query = self.positions[:, :, None]
        return (query >= self._first) & (query < self._end)

    def text_lengths(self) -> Any:
        """`text_lengths` of the cache at the new positions, (B, T), a tensor."""
        return self._storage.as_tensor(self._text_lengths)

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        return self._storage.append(layer, self._places, parts)

    def cross(self, layer: int, attention: Any, memory: Any) -> tuple[Any, ...]:
        """The keys and values of an encoder's output, computed once in the first call."""
        return self._cache.cross(layer, attention, memory)

    def commit(self, counts: np.ndarray | int) -> None:
        """Mark the new tokens as filled: `counts` of each row, (B,), or one number for all."""
        self._cache.advance(counts)

    def _find_places(self, positions, window, there, counts, n_blocks):
        filled, recent, index = self._cache.lengths, self._cache.recent.shape[1], self._storage.index
        rows = np.arange(len(filled))
        is_new = window >= filled[:, None]
        kept_rows, kept = newest(filled, counts, recent)
        n_done = (filled + counts) // BLOCK - filled // BLOCK
        done_rows, done = (np.arange(n_done.max()) < n_done[:, None]).nonzero()
        return Places(
            window=index(
                rows[:, None],
                np.where(is_new, recent + np.minimum(window, positions[:, -1:]) - filled[:, None], window % recent),
            ),
            values=index(rows[:, None], np.where(there, window, 0)),
            new=index(rows[:, None], positions),
            kept=index(kept_rows, kept - filled[kept_rows]),
            slots=index(kept_rows, kept % recent),
            done=index(done_rows[:, None], done[:, None] * BLOCK + np.arange(BLOCK)),
            blocks=index(done_rows, filled[done_rows] // BLOCK + done) if len(done) else None,
            n_blocks=n_blocks,
        )


def newest(filled: np.ndarray, counts: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows and positions, (n,) each, of the last `most` at the most of `counts` (B,) positions after `filled`."""
    columns = np.arange(max(int(counts.max()), 1))
    rows, places = ((columns < counts[:, None]) & (columns >= counts[:, None] - most)).nonzero()
    return rows, filled[rows] + places


def bounds(n_blocks: int, window: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which queries see each key that a call reads: `first` <= query < `end`, (B, S); and the keys' positions, (B, S).

    The keys of `n_blocks` blocks in 4 bits come first, for the queries of later blocks; then those of the window in
    float16, positions (B, W) or -1 in an empty slot, for the queries of their own block.
    """
    blocks = np.broadcast_to(np.arange(n_blocks * BLOCK), (len(window), n_blocks * BLOCK))
    ends = window // BLOCK * BLOCK + BLOCK
    first = np.concatenate([blocks // BLOCK * BLOCK + BLOCK, np.where(window < 0, NEVER, window)], axis=1)
    end = np.concatenate([np.full_like(blocks, NEVER), ends], axis=1)
    return first, end, np.concatenate([blocks, window], axis=1)
