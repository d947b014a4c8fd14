"""The blocks of a paged cache, without the cache: who holds which, and which beginnings of texts are still there.

A block has room for the keys and values of `block_size` positions. A text holds a table of blocks, which grows at its
end. When a block is full, its content is known: its tokens, and what came before them. Another text that begins with
the same tokens can hold the same block, also after the first text has ended, until the block is taken for other tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from tfguide.checks.values import check_count

BLOCK_SIZE = 16


class OutOfBlocks(RuntimeError):
    """There are fewer unused blocks than a text needs: nothing has changed."""


@dataclass(eq=False, slots=True)
class Table:
    """The blocks of a text, in the order of its positions.

    salt: texts share blocks only if they have the same one. contents: the number of the content of each of the first
    blocks that are full and known; no number is ever given to two contents.
    """

    salt: Hashable = None
    blocks: list[int] = field(default_factory=list)
    contents: list[int] = field(default_factory=list)

    def clear(self) -> list[int]:
        """Have no more blocks: those that it had."""
        blocks, self.blocks, self.contents = self.blocks, [], []
        return blocks


class BlockPool:
    """Which of `n_blocks` blocks are held, cached or free.

    A held block is in one or more tables. A cached one is in none, but its content may be wanted again: of these the
    one that was released first is taken for something else when no block is free. Content is found by comparing its
    tokens, so that no two texts share a block by accident.
    """

    def __init__(self, n_blocks: int, block_size: int = BLOCK_SIZE):
        self.n_blocks, self.block_size = check_count("n_blocks", n_blocks), check_count("block_size", block_size)
        self._free = list(range(self.n_blocks - 1, -1, -1))  # the lowest is taken first
        self._cached: OrderedDict[int, None] = OrderedDict()  # the one released first is taken first
        self._holders = [0] * self.n_blocks
        # (the content before, the tokens) to the block that holds them and the number of the new content.
        self._known: dict[Hashable, tuple[int, int]] = {}
        self._key_of: list[Hashable | None] = [None] * self.n_blocks
        self._next_content = 0

    @property
    def n_unused(self) -> int:
        """The blocks that no table has: free and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def n_used(self) -> int:
        """The blocks in tables."""
        return self.n_blocks - self.n_unused

    @property
    def n_cached(self) -> int:
        """The blocks in no table whose content is known."""
        return len(self._cached)

    def holders(self, block: int) -> int:
        """The number of tables that have this block."""
        return self._holders[block]

    def is_cached(self, block: int) -> bool:
        """Whether no table has this block and its content is known."""
        return block in self._cached

    def blocks_for(self, n_tokens: int) -> int:
        """The blocks that so many positions need."""
        return -(-n_tokens // self.block_size)

    def share_prefix(self, table: Table, tokens: Sequence[int]) -> int:
        """Give an empty table the blocks that hold the beginning of a text; the number of its tokens that they hold.

        The last token is never among them: it is computed, so that there are logits to choose the next one from.
        Raises ValueError if the table has blocks.
        """
        if table.blocks:
            raise ValueError(f"a prefix is found for an empty table, got one with {len(table.blocks)} blocks")
        before: Hashable = ("salt", table.salt)
        for start in range(0, len(tokens) - self.block_size, self.block_size):
            found = self._known.get((before, tuple(tokens[start : start + self.block_size])))
            if found is None:
                break
            block, before = found
            if not self._holders[block]:
                del self._cached[block]
            self._holders[block] += 1
            table.blocks.append(block)
            table.contents.append(before)
        return len(table.blocks) * self.block_size

    def grow(self, table: Table, n_tokens: int) -> list[int]:
        """Add blocks to a table until it has room for `n_tokens` positions: the new ones.

        Raises OutOfBlocks if there are not enough; the table and the pool are then as before.
        """
        missing = self.blocks_for(n_tokens) - len(table.blocks)
        if missing <= 0:
            return []
        if missing > self.n_unused:
            raise OutOfBlocks(f"{missing} more blocks are needed, {self.n_unused} of {self.n_blocks} are unused")
        new = [self._take() for _ in range(missing)]
        table.blocks.extend(new)
        return new

    def publish(self, table: Table, tokens: Sequence[int], n_computed: int) -> None:
        """Make known what the blocks of a table hold that are full: the first `n_computed` tokens are computed.

        A block whose content another block has already stays private.
        """
        for i in range(len(table.contents), min(n_computed // self.block_size, len(table.blocks))):
            before = table.contents[-1] if i else ("salt", table.salt)
            key = (before, tuple(tokens[i * self.block_size : (i + 1) * self.block_size]))
            if key not in self._known:
                block = table.blocks[i]
                self._known[key], self._key_of[block] = (block, self._next_content), key
                self._next_content += 1
            table.contents.append(self._known[key][1])

    def release(self, table: Table) -> None:
        """Take all blocks from a table, the last one first, so that a cached beginning outlives what follows it."""
        for block in reversed(table.clear()):
            self._holders[block] -= 1
            if not self._holders[block]:
                if self._key_of[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def forget(self) -> None:
        """Forget the content of all blocks that no table has."""
        while self._cached:
            self._free.append(self._evict())

    def _take(self):
        block = self._free.pop() if self._free else self._evict()
        self._holders[block] = 1
        return block

    def _evict(self):
        block, _ = self._cached.popitem(last=False)
        del self._known[self._key_of[block]]
        self._key_of[block] = None
        return block
