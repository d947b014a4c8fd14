"""Requests that arrive, run, end, are aborted and preempted in any order give the tokens that each gives alone."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.serving.hashing import HashModel, V, alone, check_end, check_idle, drain, engine, request
from tests.support import refuses
from tfguide.serving import Chunk, Finish, LastChunk, Limits, QueueFull


def test_a_chunk_that_does_not_end_its_prompt_chooses_nothing():
    e = engine(tokens=24)
    (sequence,) = e.add(request([1] * 60, 3))
    kinds = []
    while not e.is_idle:
        chunks = e.scheduler.schedule()
        kinds.append([(type(chunk), chunk.start, chunk.end) for chunk in chunks])
        e._read(chunks)
        e.scheduler.advance(chunks, lambda chunk: 2)
    assert kinds == [
        [(Chunk, 0, 24)], [(Chunk, 24, 48)], [(LastChunk, 48, 60)], [(LastChunk, 60, 61)], [(LastChunk, 61, 62)],
    ]  # fmt: skip
    assert sequence.new_tokens == [2, 2, 2]


def test_a_running_request_gets_its_token_in_every_step_while_long_prompts_come():
    e = engine(n_blocks=60, tokens=8)
    (first,) = e.add(request([3, 1], 40))
    e.step()
    for i in range(3):
        e.add(request([i] * 150, 2))
    for _ in range(30):
        before = first.n_new
        e.step()
        assert first.n_new == before + 1
    drain(e)
    check_end(first)


def test_lower_priorities_are_first_and_equal_ones_in_order_of_arrival():
    e = engine(rows=1, tokens=4)
    added = [e.add(request([i], 2, priority=priority))[0] for i, priority in enumerate((5, 5, 0, -1, 5))]
    ended = []
    while not e.is_idle:
        ended += [update.sequence for update in e.step() if update.finish]
    assert [added.index(sequence) for sequence in ended] == [3, 2, 0, 1, 4]


def test_the_last_of_the_running_ones_gives_way_and_ends_as_if_nothing_had_happened():
    e = engine(n_blocks=4, rows=2, tokens=64)
    first, second = (e.add(request([i, 2, 3], 50, stop_tokens=()))[0] for i in range(2))
    drain(e)
    assert first.n_preempted == 0 and second.n_preempted >= 1
    for sequence in (first, second):
        assert sequence.n_new == 50
        check_end(sequence)
    check_idle(e)


def test_one_that_gave_way_does_not_go_on_with_the_blocks_that_it_had():
    """It begins again in the same row, at the place where it was, with a block of the other one instead of its own."""
    e = engine(n_blocks=3, rows=2, tokens=32)
    first, second = (e.add(request([7] * 16, 12))[0] for _ in range(2))
    drain(e)
    assert second.n_preempted
    for sequence in (first, second):
        check_end(sequence)
    check_idle(e)


def test_many_that_need_the_whole_pool_all_end():
    """Each needs all blocks at its end: they are refused or end, none waits for ever (row 1 of the table of bugs)."""
    e = engine(n_blocks=4, rows=4)
    added = [e.add(request([i, 1, 2], 62))[0] for i in range(4)]
    with refuses(ValueError, "the prompt has 3 tokens and 63 more are wanted: a text may have 64, so that at most 62"):
        e.add(request([1, 2, 3], 63))
    with refuses(ValueError, "the prompt has 65 tokens, the most that a text may have is 64"):
        e.add(request([1] * 65, 1))
    assert e.add(request([1] * 64))[0].max_new_tokens == 1
    drain(e)
    for sequence in added:
        check_end(sequence)
        assert sequence.finish is Finish.LENGTH
    check_idle(e)


def test_a_prompt_that_waits_for_blocks_does_not_let_others_pass_for_ever():
    e = engine(n_blocks=6, rows=3)
    small = [e.add(request([1, i], 20))[0] for i in range(2)]
    e.step()
    (large,) = e.add(request([2] * 90, 2))
    late = [e.add(request([1, i], 20))[0] for i in range(2, 8)]
    order = []
    while not e.is_idle:
        order += [update.sequence for update in e.step() if update.finish]
    assert order.index(large) < min(order.index(sequence) for sequence in late)
    assert set(order) == {large, *small, *late}


@pytest.mark.parametrize("n", [16, 32, 33, 31])
def test_a_repeat_computes_at_least_one_token_and_gives_the_same(n):
    prompt = [i % V for i in range(n)]
    e = engine(n_blocks=30, tokens=64)
    first, again = (e.add(request(prompt, 20))[0] for _ in range(2) if drain(e) is None)
    drain(e)
    assert first.new_tokens == again.new_tokens == alone(prompt, 20)
    assert first.n_shared == 0 and again.n_shared == (n - 1) // 16 * 16


def test_what_an_answer_has_computed_is_shared_too():
    e = engine(n_blocks=30, tokens=64)
    (first,) = e.add(request([1, 2, 3], 60))
    drain(e)
    turn = first.tokens[:55]
    (second,) = e.add(request(turn, 5))
    drain(e)
    assert second.n_shared == 48
    check_end(second)


def test_a_salt_keeps_texts_apart():
    e = engine(n_blocks=30, tokens=64)
    for salt, shared in ((None, 0), ("a", 0), ("a", 32), (None, 32), ("b", 0)):
        (sequence,) = e.add(request([1] * 40, 3, salt=salt))
        drain(e)
        assert sequence.n_shared == shared
        check_end(sequence)


def test_choices_share_their_prompt():
    e = engine(n_blocks=40, rows=8, tokens=40)
    choices = e.add(request([4] * 35, 10, n=3))
    assert [sequence.choice for sequence in choices] == [0, 1, 2]
    drain(e)
    assert [sequence.n_shared for sequence in choices] == [0, 32, 32]
    for sequence in choices:
        check_end(sequence)


def test_choices_go_on_where_the_first_one_was_aborted():
    for steps in range(5):
        e = engine(n_blocks=40, rows=8, tokens=24)
        choices = e.add(request([4] * 35, 10, n=3))
        for _ in range(steps):
            e.step()
        e.abort(choices[0])
        drain(e)
        assert choices[0].finish is Finish.ABORT
        for sequence in choices[1:]:
            check_end(sequence)
        check_idle(e)


@pytest.mark.parametrize("steps", range(6))
def test_an_abort_gives_everything_back_in_every_state(steps):
    """Waiting, between chunks, running, and ended: the blocks are back at once."""
    e = engine(tokens=24)
    sequences = e.add(request([5] * 60, 3, n=2))
    for _ in range(steps):
        e.step()
    for sequence in sequences:
        e.abort(sequence)
        e.abort(sequence)
        assert sequence.finish is not None
    check_idle(e)
    assert e.step() == []


def test_the_queue_is_bounded_and_a_request_enters_whole_or_not():
    e = engine(rows=1, tokens=4, waiting=3)
    e.add(request([1], 5))
    e.step()
    e.add(request([2], 5, n=2))
    with refuses(QueueFull, "2 sequences wait, 3 may: try again later"):
        e.add(request([3], 5, n=2))
    assert len(e.scheduler.waiting) == 2
    e.add(request([3], 5))
    drain(e)


def test_limits_are_checked():
    with refuses(ValueError, "a step must have a token for each of 64 rows, got tokens=8"):
        Limits(length=100, tokens=8)
    with refuses(ValueError, "rows must be at least 1, got 0"):
        Limits(length=100, rows=0)


class Requests(RuleBasedStateMachine):
    """Any order of arrivals, steps and aborts, over a pool that is too small for all."""

    def __init__(self):
        super().__init__()
        self.engine = engine(n_blocks=7, rows=3, tokens=20, waiting=6)
        self.sequences, self.since = [], {}

    prompts = st.one_of(
        st.lists(st.integers(0, 1), min_size=1, max_size=6),
        st.integers(1, 70).map(lambda n: [i // 16 % 2 for i in range(n)]),  # long ones with common beginnings
    )

    @rule(
        prompt=prompts, n_new=st.integers(1, 40), n=st.sampled_from([1, 1, 1, 2, 3]), priority=st.integers(0, 1),
        salt=st.sampled_from([None, None, "a"]), stop=st.sampled_from([(), (3,), (3, 4)]),
    )  # fmt: skip
    def arrive(self, prompt, n_new, n, priority, salt, stop):
        waited = len(self.engine.scheduler.waiting)
        try:
            new = self.engine.add(request(prompt, n_new, n=n, priority=priority, salt=salt, stop_tokens=stop))
        except QueueFull:
            assert waited + n > 6 and len(self.engine.scheduler.waiting) == waited
            return
        assert len(new) == n
        self.sequences += new

    @rule(n=st.integers(1, 12))
    def step(self, n):
        for _ in range(n):
            running = [
                (s, s.n_new, s.n_preempted) for s in self.engine.scheduler.running if len(s.tokens) - s.n_computed == 1
            ]
            updates = self.engine.step()
            assert len({update.sequence for update in updates}) == len(updates)
            for sequence, n_new, n_preempted in running:  # none waits between two tokens, unless it gave way
                assert sequence.n_new == n_new + 1 or sequence.n_preempted > n_preempted
            for update in updates:
                assert update.finish is update.sequence.finish and update.token == update.sequence.tokens[-1]

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def abort(self, data):
        sequence = data.draw(st.sampled_from(self.sequences))
        before = sequence.finish
        self.engine.abort(sequence)
        assert sequence.finish is (before or Finish.ABORT) and not sequence.table.blocks

    @invariant()
    def nothing_is_lost(self):
        scheduler, pool = self.engine.scheduler, self.engine.pool
        live = [*scheduler.waiting, *scheduler.running]
        assert set(live) == {sequence for sequence in self.sequences if sequence.finish is None}
        assert len(set(live)) == len(live)
        assert [s.rank for s in scheduler.running] == sorted(s.rank for s in scheduler.running)
        rows = [sequence.row for sequence in scheduler.running]
        assert sorted([*rows, *scheduler._rows]) == [0, 1, 2]
        held = Counter(block for sequence in scheduler.running for block in sequence.table.blocks)
        assert [pool.holders(block) for block in range(7)] == [held[block] for block in range(7)]
        assert all(not sequence.table.blocks for sequence in scheduler.waiting)
        assert sorted([*pool._free, *pool._cached, *held]) == list(range(7))
        for sequence in live:
            assert sequence.n_computed <= len(sequence.table.blocks) * 16

    @invariant()
    def tokens_are_those_of_each_alone(self):
        for sequence in self.sequences:
            expected = alone(sequence.request.prompt, sequence.n_new, sequence.stop_tokens)
            assert sequence.new_tokens == expected

    def teardown(self):
        drain(self.engine)
        for sequence in self.sequences:
            check_end(sequence)
        check_idle(self.engine)


Requests.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestRequests = Requests.TestCase


def test_the_model_of_these_tests_sees_every_token_and_every_block():
    """A wrong block, or a token too many, changes what comes after: else the machine above proves nothing."""
    assert alone([1, 2, 3], 8) != alone([1, 2, 4], 8) != alone([2, 2, 4], 8)
    model = HashModel()
    e = engine(model=model)
    (sequence,) = e.add(request([1] * 20, 10))
    e.step()
    table = sequence.table.blocks
    model_keys = e.cache.storage.tensors["key"][0]
    model_keys[table[-1]] = model_keys[table[0]]
    drain(e)
    assert sequence.new_tokens != alone([1] * 20, 10)
