"""A cache of blocks that any row may hold: rows grow block by block, and rows with the same beginning share blocks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.caching import DenseCache
from tfguide.generation.checks import check_cache_sizes, check_room, check_rows, check_storage
from tfguide.generation.rings import BLOCK
from tfguide.generation.views import View

LEAST_BLOCK = 16  # positions that the C++ kernels look at together


class PagedCache(DenseCache):
    """A cache that stores position p of row r in slot `p % block_size` of block `tables[r, p // block_size]`.

    Rows are of one model, as those of a `DenseCache`, and every verb of a model takes it. Who fills it decides which
    blocks a row has (`assign`), and that no two rows write to one: see `tfguide.serving.BlockPool`. Layers with a
    window keep all positions.

    `tables`: int64 (B, most blocks of a row). storage: of `n_blocks` rows with `block_size` slots. block_size: a power
    of two from 16 to 512. Raises ValueError for another size, and as `DenseCache`.
    Source: Kwon et al. 2023, "Efficient Memory Management for Large Language Model Serving with PagedAttention".
    """

    dense, paged, has_rings = False, True, False

    def __init__(
        self, config: ModelConfig, batch_size: int, max_length: int, n_blocks: int, block_size: int, storage: Any
    ):
        super().__init__(config, batch_size, max_length, None)
        self.n_blocks, self.block_size = check_blocks(n_blocks, block_size)
        check_storage(storage, config, self.n_blocks, [self.block_size] * config.n_layers)
        self.storage = storage
        self.tables = np.zeros((self.batch_size, -(-self.max_length // self.block_size)), np.int64)
        self.n_held = np.zeros(self.batch_size, np.int64)  # the blocks of each row
        self.room = np.zeros(self.batch_size, np.int64)  # the most positions of each row
        self.native: Any = None  # the addresses that the kernels take, once they are known: nothing here moves

    def assign(self, row: int, blocks: Sequence[int], length: int = 0, prompt_length: int = 0) -> None:
        """Let a row hold these blocks, of which the first `length` positions are filled.

        prompt_length: of the whole prompt, where it is read in several calls; see `begin`; 0: not known yet.
        Raises ValueError for blocks that do not exist, more than a row may have, and more positions than they hold.
        """
        check_rows([row], self.batch_size)
        if len(blocks) > self.tables.shape[1]:
            raise ValueError(f"a row has at most {self.tables.shape[1]} blocks, got {len(blocks)}")
        if blocks and not 0 <= min(blocks) <= max(blocks) < self.n_blocks:
            raise ValueError(f"blocks must lie between 0 and {self.n_blocks - 1}, got {list(blocks)}")
        if not 0 <= length <= len(blocks) * self.block_size:
            raise ValueError(f"{len(blocks)} blocks hold {len(blocks) * self.block_size} positions, got {length}")
        self.tables[row, : len(blocks)] = blocks
        self.n_held[row], self.lengths[row], self._begun[row] = len(blocks), length, prompt_length
        self.room[row] = min(len(blocks) * self.block_size, self.max_length)

    def add_blocks(self, row: int, blocks: Sequence[int]) -> None:
        """Let a row hold more blocks, after those that it has. Raises ValueError as `assign`."""
        row, held, length, begun = self.held(row)
        self.assign(row, [*held, *blocks], length, begun)

    def held(self, row: int) -> tuple[int, list[int], int, int]:
        """What a row has, as the arguments of `assign`: for another cache that shall have the same."""
        return int(row), self.tables[row, : self.n_held[row]].tolist(), int(self.lengths[row]), int(self._begun[row])

    def select(self, rows: Sequence[int] | np.ndarray) -> PagedCache:
        """A cache of some rows (n,) with the same blocks; what it reads counts here after `take_lengths`."""
        part = copy.copy(self)
        part._keep(check_rows(rows, self.batch_size))
        return part

    def take_lengths(self, rows: np.ndarray, part: PagedCache) -> None:
        """Count what was read by `part`, a selection of these rows."""
        self.lengths[rows], self._begun[rows] = part.lengths, part._begun

    def check_room(self, n_tokens: int | np.ndarray) -> None:
        """Raises ValueError if `n_tokens` more tokens of each row, one number or (B,), do not fit into its blocks."""
        missing = self.lengths + n_tokens - self.room
        row = int(missing.argmax())
        if missing[row] > 0:
            more = np.broadcast_to(n_tokens, missing.shape)[row]
            check_room(int(self.lengths[row]), int(more), self.max_length)
            raise ValueError(
                f"row {row} has {self.n_held[row]} blocks of {self.block_size} positions: {self.lengths[row]} are "
                f"filled, {more} more came"
            )

    def advance(self, counts: np.ndarray | int) -> None:
        """Mark tokens that were just written as filled: `counts` of each row, (B,), or one number for all."""
        self.lengths += counts

    def extend(self, n_tokens: int, counts: np.ndarray | int | None = None) -> PagedView:
        """A call that adds `n_tokens` tokens to each row. Raises ValueError if they do not fit.

        counts: how many of them are real, (B,) or one number; default: all. Padding is not written.
        """
        counts = np.broadcast_to(n_tokens if counts is None else counts, self.lengths.shape)
        self.check_room(counts)
        self.begin(counts, only_empty=True)
        return PagedView(self, self.lengths[:, None] + np.arange(n_tokens), counts)

    def reorder(self, rows: np.ndarray) -> None:
        """Raises ValueError: two rows with one block would write to it."""
        raise ValueError("the rows of a paged cache keep their blocks: beam search takes a cache of `new_cache`")

    def at_addresses(self, native: Any) -> None:
        """Remember the addresses that the kernels take: the tensors of the storage stay where they are."""
        self.native = native

    def _keep(self, rows):
        """Have these rows alone."""
        self.batch_size, self.native = len(rows), None
        for name in ("tables", "n_held", "room", "lengths", "_begun"):
            setattr(self, name, getattr(self, name)[rows])

    def find(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The block and the slot in it of each position (B, n): two arrays (B, n)."""
        return np.take_along_axis(self.tables, positions // self.block_size, axis=1), positions % self.block_size


class PagedView(View):
    """One call on a paged cache: it writes the new positions into the blocks of their rows, and reads all of them."""

    def __init__(self, cache: PagedCache, positions: np.ndarray, counts: np.ndarray):
        self._real = None if (counts == positions.shape[1]).all() else np.arange(positions.shape[1]) < counts[:, None]
        super().__init__(cache, positions)
        # A key beyond the end of its row is hidden, but it must be a number: it is read from the row itself.
        newest = cache.lengths + counts - 1
        self._read = self._storage.index(*cache.find(np.minimum(np.arange(self._end), np.maximum(newest, 0)[:, None])))

    def append(self, layer: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Store new positions, each (B, T, ...), and return all that the new queries may see, each (B, S, ...)."""
        real, storage = self._real, self._storage
        kept = parts if real is None else tuple(storage.pick(part, *real.nonzero()) for part in parts)
        storage.write(layer, self._places, kept)
        return storage.gather(layer, self._read, parts[0].dtype)

    def _find_places(self):
        positions = self._new if self._real is None else np.where(self._real, self._new, 0)
        places = self._cache.find(positions)
        return self._storage.index(*(places if self._real is None else (place[self._real] for place in places)))


def check_blocks(n_blocks: int, block_size: int) -> tuple[int, int]:
    """The sizes of a paged cache, checked. Raises TypeError or ValueError."""
    n_blocks, block_size = check_count("n_blocks", n_blocks), check_count("block_size", block_size)
    if block_size & (block_size - 1) or not LEAST_BLOCK <= block_size <= BLOCK:
        raise ValueError(f"block_size must be a power of two from {LEAST_BLOCK} to {BLOCK}, got {block_size}")
    return n_blocks, block_size


def check_paged(config: ModelConfig, n_rows: int, max_length: int | None) -> tuple[int, int]:
    """The rows of a paged cache and the most positions of one; None: the model's. Raises TypeError or ValueError."""
    n_rows, max_length = check_cache_sizes(config, n_rows, max_length or config.max_positions)
    if max_length is None:
        raise ValueError("the model has no limit of positions: expected max_length, got None")
    return n_rows, max_length


def check_paged_dtype(dtype: str) -> str:
    """The type of a paged cache. Raises ValueError for 4 bits, whose blocks of 32 keys share their scales."""
    if dtype == "int4":
        raise ValueError("a paged cache keeps float32, bfloat16, float16 or int8, got int4: see `Int4KVCache`")
    return dtype
