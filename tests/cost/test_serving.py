"""What a server takes: the balance of its steps, held against the scheduler under a clock of the same costs."""

import numpy as np
import pytest

from tests.support import refuses
from tfguide import ModelConfig, cost
from tfguide.cost import StepCost, Traffic, capacity, fit_step_cost, steady, step_cost
from tfguide.serving import BlockPool, Limits, Scheduler
from tfguide.serving.simulate import Arrival, simulate

COST = StepCost(step_s=0.01, token_s=0.0005, position_s=1e-6)


def test_a_step_costs_its_parts():
    assert COST(3, 1000) == pytest.approx(0.01 + 0.0015 + 0.001) and COST(0) == 0.01
    with refuses(ValueError, "token_s must be at least 0, got -1"):
        StepCost(step_s=0.1, token_s=-1)


def test_the_cost_by_a_data_sheet_is_that_of_a_step():
    config, chip = ModelConfig.from_preset("llama-3-8b"), cost.CHIPS["h100"]
    one, many = step_cost(config, chip), cost.step(config, chip, 1, 32, 2048)
    assert one(32, 32 * 2048) == pytest.approx(many.weights_s + many.kv_s + many.compute_s, rel=0.06)
    assert one.step_s == many.weights_s and 32 * 2048 * one.position_s == pytest.approx(many.kv_s)


def test_a_fit_finds_what_was_measured():
    tokens, positions = [1, 4, 16, 64, 128, 16], [100, 900, 4000, 20000, 500, 50000]
    found = fit_step_cost(tokens, positions, [COST(n, s) for n, s in zip(tokens, positions, strict=True)])
    assert (found.step_s, found.token_s, found.position_s) == pytest.approx((0.01, 0.0005, 1e-6))
    falling = fit_step_cost(
        tokens, positions, [0.01 + 1e-4 * n - 1e-9 * s for n, s in zip(tokens, positions, strict=True)]
    )
    assert falling.position_s == 0 and falling.token_s == pytest.approx(1e-4, rel=0.2)
    with refuses(ValueError, "of three steps or more, got 2, 2 and 2"):
        fit_step_cost([1, 2], [1, 2], [1.0, 2.0])


def test_traffic_counts_what_requests_hold():
    """Two requests by hand: the first token is chosen from the prompt, the second from one more."""
    one = Traffic.of([10, 20], [1, 3])
    assert (one.prompt, one.answer, one.held) == (15, 2, (10 + 20 + 21 + 22) / 2)
    assert one.work_s(COST) == pytest.approx(16 * 0.0005 + 36.5e-6)
    with refuses(ValueError, "as many prompts as answers, got 2 and 1"):
        Traffic.of([1, 2], [3])


def test_at_its_capacity_a_server_is_at_its_limit():
    traffic = Traffic.of([100, 300], [50, 250])
    limits = {"tpot": 0.05, "rows": 20, "tokens": 40, "positions": 9000}
    found = capacity(COST, traffic, **limits)
    assert set(found) == set(limits)
    for name, limit in limits.items():
        assert getattr(steady(COST, traffic, found[name]), name) == pytest.approx(limit)
    assert steady(COST, traffic, 1.001 / traffic.work_s(COST)) is None
    assert capacity(COST, traffic, tpot=0.005, rows=1, tokens=1)["tpot"] == 0  # no step is as short


def test_the_balance_is_that_of_the_scheduler():
    """Requests come evenly, and steps take what they cost: time between tokens, rows and positions agree to 10%."""
    rng = np.random.default_rng(1)
    prompts, answers = rng.integers(10, 200, 300), rng.integers(20, 180, 300)
    traffic = Traffic.of(prompts, answers)
    rate = 0.6 / traffic.work_s(COST)
    predicted = steady(COST, traffic, rate)
    arrivals = [
        Arrival(i / rate, range(1000 * i, 1000 * i + int(p)), int(n))
        for i, (p, n) in enumerate(zip(prompts, answers, strict=True))
    ]
    limits = Limits(length=2000, rows=500, tokens=1000, waiting=1000)
    served = simulate(Scheduler(BlockPool(9999, 16), limits), arrivals, COST)[60:240]
    tpot = np.average([one.tpot for one in served], weights=[len(one.times) - 1 for one in served])
    assert tpot == pytest.approx(predicted.tpot, rel=0.1)
    stays = np.mean([one.times[-1] - one.at for one in served])
    assert rate * stays == pytest.approx(predicted.rows, rel=0.1)  # Little's law, by what happened
