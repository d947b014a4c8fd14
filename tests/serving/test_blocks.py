"""The pool of blocks: in any order of calls, no block is lost, held by a stranger, or found for another text."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support import refuses
from tfguide.serving import BlockPool, OutOfBlocks, Table

SIZE = 2


def fill(pool, tokens, salt=None):
    """A table with all of a text, and how many of its tokens others had computed."""
    table = Table(salt)
    shared = pool.share_prefix(table, tokens)
    pool.grow(table, len(tokens))
    pool.publish(table, tokens, len(tokens))
    return table, shared


def test_a_prefix_is_shared_in_whole_blocks_and_never_the_last_token():
    pool = BlockPool(8, 4)
    first, shared = fill(pool, range(12))
    assert shared == 0 and len(first.blocks) == 3
    for n, expected in ((12, 8), (13, 12), (9, 8), (8, 4), (4, 0), (1, 0)):
        table = Table()
        assert pool.share_prefix(table, range(n)) == expected
        assert table.blocks == first.blocks[: expected // 4]
        pool.release(table)
    assert pool.n_used == 3


def test_tokens_are_compared_and_not_their_hashes():
    class Same(int):
        def __hash__(self):
            return 7

    pool = BlockPool(8, SIZE)
    fill(pool, [Same(1), Same(2), Same(3)])
    assert pool.share_prefix(Table(), [Same(2), Same(1), Same(3)]) == 0
    assert pool.share_prefix(Table(), [Same(1), Same(2), Same(3)]) == 2


def test_a_salt_is_no_token():
    """The beginning of a text is tagged: no salt equals the content of a block before it, whatever it is."""
    pool = BlockPool(20, SIZE)
    fill(pool, [1, 2, 3, 4, 5])
    for salt in ("a", 0, 1, (1, 2), ("salt", None), ("salt", 0)):
        assert pool.share_prefix(Table(salt), [1, 2, 3, 4, 5]) == 0
        assert pool.share_prefix(Table(salt), [3, 4, 5]) == 0
    assert pool.share_prefix(Table(), [3, 4, 5]) == 0  # the same tokens after others


def test_what_was_released_first_is_taken_first_and_a_beginning_outlives_its_end():
    pool = BlockPool(4, SIZE)
    table, _ = fill(pool, range(7))
    pool.release(table)
    assert (pool.n_used, pool.n_cached, pool.n_unused) == (0, 3, 4)
    other = Table()
    pool.grow(other, 4)  # the free one, and the cached one with the last tokens
    assert pool.share_prefix(Table(), range(7)) == 4


def test_two_texts_that_computed_the_same_keep_their_own_blocks():
    pool, tokens = BlockPool(8, SIZE), [1, 2, 3, 4, 5]
    tables = [Table(), Table()]
    for table in tables:
        pool.grow(table, 5)
    for table in tables:
        pool.publish(table, tokens, 5)
    assert not set(tables[0].blocks) & set(tables[1].blocks)
    pool.release(tables[0])
    assert pool.n_used == 3
    again = Table()
    assert pool.share_prefix(again, tokens) == 4
    assert not set(again.blocks) & set(tables[1].blocks)


def test_growing_is_a_transaction():
    pool = BlockPool(3, SIZE)
    table, _ = fill(pool, [1, 2, 3])
    before = list(table.blocks)
    with refuses(OutOfBlocks, "2 more blocks are needed, 1 of 3 are unused"):
        pool.grow(table, 8)
    assert table.blocks == before and pool.n_unused == 1
    assert pool.grow(table, 6) and not pool.grow(table, 5)


def test_wrong_use_is_said():
    for sizes in ((0, 16), (4, 0)):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            BlockPool(*sizes)
    pool = BlockPool(4, SIZE)
    table, _ = fill(pool, [1, 2, 3])
    with refuses(ValueError, "a prefix is found for an empty table, got one with 2 blocks"):
        pool.share_prefix(table, [1, 2, 3])
    pool.release(table)
    pool.release(table)  # changes nothing
    assert pool.n_used == 0 and sorted(pool._free + list(pool._cached)) == [0, 1, 2, 3]


class Pool(RuleBasedStateMachine):
    """Texts over two tokens begin, grow, end, in any order. What each block holds is kept here, by its writer."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(7, SIZE)
        self.texts = []  # table, tokens, how many are computed
        self.written = {}  # block to the text up to its end, as whoever wrote it last left it

    def write(self, text):
        table, tokens, n = text[0], text[1], text[2]
        for i, block in enumerate(table.blocks):
            upto = min((i + 1) * SIZE, n)
            if i * SIZE < upto:
                self.written[block] = (table.salt, tuple(tokens[:upto]))

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=9), salt=st.sampled_from([None, "a"]))
    def begin(self, tokens, salt):
        table = Table(salt)
        shared = self.pool.share_prefix(table, tokens)
        assert shared < len(tokens) and shared == len(table.blocks) * SIZE
        for i, block in enumerate(table.blocks):  # it holds what it is taken for
            assert self.written[block] == (salt, tuple(tokens[: (i + 1) * SIZE]))
        try:
            self.pool.grow(table, len(tokens))
        except OutOfBlocks:
            self.pool.release(table)
            return
        self.texts.append([table, list(tokens), shared])

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def compute(self, data):
        text = data.draw(st.sampled_from(self.texts))
        text[2] = data.draw(st.integers(text[2], len(text[1])))
        self.write(text)
        self.pool.publish(text[0], text[1], text[2])

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), token=st.integers(0, 1))
    def grow(self, data, token):
        text = data.draw(st.sampled_from(self.texts))
        before = list(text[0].blocks)
        try:
            self.pool.grow(text[0], len(text[1]) + 1)
        except OutOfBlocks:
            assert text[0].blocks == before
            return
        text[1].append(token)
        assert text[0].blocks[: len(before)] == before

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def end(self, data):
        index = data.draw(st.integers(0, len(self.texts) - 1))
        self.pool.release(self.texts.pop(index)[0])

    @rule()
    def forget(self):
        self.pool.forget()
        assert self.pool.n_cached == 0

    @invariant()
    def nothing_is_lost(self):
        pool = self.pool
        held = Counter(block for table, _, _ in self.texts for block in table.blocks)
        assert [pool.holders(block) for block in range(7)] == [held[block] for block in range(7)]
        assert sorted([*pool._free, *pool._cached, *held]) == list(range(7))
        assert pool.n_used == len(held) and pool.n_used + pool.n_unused == 7
        assert {block for block, _ in pool._known.values()} <= set(range(7)) - set(pool._free)

    @invariant()
    def what_is_computed_is_still_there(self):
        for table, tokens, n in self.texts:
            for i, block in enumerate(table.blocks[: n // SIZE]):
                if self.written.get(block) is not None and i < len(table.contents):
                    assert self.written[block] == (table.salt, tuple(tokens[: (i + 1) * SIZE]))


Pool.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = Pool.TestCase
