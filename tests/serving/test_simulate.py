"""The scheduler under a clock: the times are those that follow by hand, and every text gets all its tokens."""

import numpy as np
import pytest

from tfguide.serving import BlockPool, Limits, Scheduler
from tfguide.serving.simulate import Arrival, simulate, simulate_static, steps


def scheduler(rows=2, tokens=8, n_blocks=40, length=300):
    return Scheduler(BlockPool(n_blocks, 16), Limits(length=length, rows=rows, tokens=tokens, waiting=1000))


def clock(n, read):
    """A second for a step, a tenth for each token."""
    return 1 + n / 10


def test_times_are_those_that_follow_by_hand():
    """A prompt of 10 tokens takes a step of 8 and one of 2; the second text comes while it runs."""
    found = simulate(scheduler(), [Arrival(0.0, range(10), 3), Arrival(2.0, range(50, 53), 2)], clock)
    first = [1.8 + 1.2, 1.8 + 1.2 + 1.4, 1.8 + 1.2 + 1.4 + 1.2]
    assert found[0].times == pytest.approx(first) and found[1].times == pytest.approx(first[1:])
    assert found[0].ttft == pytest.approx(3.0) and found[1].ttft == pytest.approx(2.4)
    assert found[0].tpot == pytest.approx(1.3) and found[0].longest_gap == pytest.approx(1.4)


def test_one_token_has_no_time_between():
    (found,) = simulate(scheduler(), [Arrival(0.0, [1], 1)], clock)
    assert found.tpot is None and found.longest_gap == 0


def test_the_clock_stands_still_until_someone_comes():
    early, late = simulate(scheduler(), [Arrival(90.0, [2], 1), Arrival(5.0, [1], 1)], clock)
    assert (early.at, late.at) == (5.0, 90.0) and late.times == pytest.approx([91.1])


def test_a_static_batch_takes_what_has_come_and_ends_with_its_longest_answer():
    arrivals = [Arrival(0.0, range(4), 1), Arrival(0.0, range(6), 3), Arrival(0.1, [1], 1)]
    found = simulate_static(2, arrivals, clock)
    ends = np.cumsum([1 + 12 / 10, 1.2, 1.2, 1.1])
    assert found[0].times == pytest.approx(ends[:1]) and found[1].times == pytest.approx(ends[:3])
    assert found[2].times == pytest.approx(ends[3:])


@pytest.mark.parametrize("n_blocks", [12, 400])
def test_all_get_their_tokens_in_order_also_where_the_pool_is_small(n_blocks):
    rng = np.random.default_rng(0)
    arrivals = [
        Arrival(float(at), range(100 * i, 100 * i + int(p)), int(n))
        for i, (at, p, n) in enumerate(
            zip(rng.random(30) * 20, rng.integers(1, 60, 30), rng.integers(1, 40, 30), strict=True)
        )
    ]
    one = scheduler(rows=5, tokens=16, n_blocks=n_blocks)
    found = simulate(one, arrivals, clock)
    assert [served.at for served in found] == sorted(one.at for one in arrivals)
    wanted = [one.n_new for one in sorted(arrivals, key=lambda one: one.at)]
    assert [len(served.times) for served in found] == wanted
    assert all(served.at < served.times[0] and np.all(np.diff(served.times) > 0) for served in found)
    assert (one.n_preempted > 0) == (n_blocks == 12) and one.pool.n_used == 0


def test_a_step_is_yielded_before_it_counts():
    one = scheduler()
    for step in steps(one, [Arrival(0.0, range(10), 2)], clock):
        (chunk,) = step.chunks
        assert chunk.sequence.n_computed == chunk.start < chunk.end and step.came == [chunk.sequence]
        assert len(chunk.sequence.table.blocks) * 16 >= chunk.end
        assert step.ends - step.begins == pytest.approx(clock(step.n_tokens, 0))
