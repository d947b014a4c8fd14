"""The curves of scaling are plans of the cost model, and what was published lies above them."""

import pytest

from tfguide import cost
from tfguide.cost.published import MLPERF_TOKENS
from tfguide.cost.scaling import CHIP_COUNTS, WORKLOADS

IDS = [workload.name for workload in WORKLOADS]


@pytest.mark.parametrize("workload", WORKLOADS, ids=IDS)
def test_a_curve(workload):
    curve = workload.curve()
    assert [one.chips for one in curve] == [n for n in CHIP_COUNTS if n >= curve[0].chips]
    room = 0.9 * cost.CHIPS[workload.chip].hbm_bytes
    assert all(one.weight_bytes_per_chip + one.kv_bytes_per_chip <= room for one in curve)
    seconds = [one.serial_s for one in curve]
    assert seconds == sorted(seconds, reverse=True)
    prices = [workload.price(one.chips, one.serial_s) for one in curve]
    assert prices == sorted(prices) and prices[-1] > 1.2 * prices[0]
    assert curve[-1].layout == "2d-ws"
    for layout in cost.LAYOUTS:
        other = cost.step(workload.config, workload.chip, curve[-1].chips, workload.batch, workload.context,
                          layout=layout, **workload.types)  # fmt: skip
        assert other.serial_s >= curve[-1].serial_s


@pytest.mark.parametrize("workload", WORKLOADS, ids=IDS)
def test_what_was_measured_is_slower(workload):
    ratios = [seconds / workload.best(chips).serial_s for chips, seconds in workload.measured.items()]
    assert 1.3 < ratios[0] < 3.1
    assert ratios == sorted(ratios) and ratios[-1] < 4.2  # the more chips, the further from the model


def test_what_does_not_fit():
    palm = WORKLOADS[0]
    assert palm.best(32) is None and palm.best(64) is not None
    assert palm.curve()[0].chips == 64


def test_the_price_of_a_served_token():
    """As the benchmark prints it: eight chips, by the tokens of a second."""
    [mlperf] = [workload for workload in WORKLOADS if "MLPerf" in workload.source]
    [(chips, seconds)] = mlperf.measured.items()
    assert mlperf.price(chips, seconds) == pytest.approx(8 / MLPERF_TOKENS, rel=1e-3)
