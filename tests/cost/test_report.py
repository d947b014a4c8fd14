"""A plan's report from plain values, without a command line."""

import json

import numpy as np
import pytest

from tfguide import PRESETS, ModelConfig, cost
from tfguide.cost.listings import chips_report, chips_table, models_report, models_table, short_count
from tfguide.cost.report import SWEPT, Workload, plan_report, plan_table, sweep, sweep_table, sweep_values

LLAMA = ModelConfig.from_preset("llama-3-70b")
ASKED = Workload(batch=32, context=8192, weights="int8")


def test_a_report_is_the_plan_of_its_workload():
    got = plan_report("a llama", LLAMA, "h100", ASKED)
    want = cost.plan(LLAMA, "h100", 32, 8192, weights="int8")
    assert (got["model"], got["chip"], got["chips"]) == ("a llama", "h100", want.chips)
    assert got["decode"]["serial_s"] == want.decode.serial_s and got["prefill"]["mesh"] == list(want.prefill.mesh)
    assert got == plan_report("a llama", LLAMA, cost.CHIPS["h100"], ASKED)
    assert json.loads(json.dumps(got)) == got


def test_every_field_of_a_workload_counts():
    base = plan_report("m", LLAMA, "h100", ASKED)
    for change in (
        dict(batch=31), dict(context=8191), dict(weights="bfloat16"), dict(kv="int8"), dict(latency_s=0.005),
        dict(chips=16), dict(layout="1d-ws", chips=16), dict(attention="batch"), dict(reserve=0.3),
    ):  # fmt: skip
        fields = dict(batch=32, context=8192, weights="int8") | change
        assert plan_report("m", LLAMA, "h100", Workload(**fields)) != base, change
    with pytest.raises(ValueError, match="no plan keeps a step within"):
        plan_report("m", LLAMA, "h100", Workload(latency_s=1e-7))
    with pytest.raises(ValueError, match="reserve must be at least 0 and below 1"):
        plan_report("m", LLAMA, "h100", Workload(reserve=1.0))


def test_the_table_is_made_of_the_report_alone():
    got = plan_report("m", LLAMA, "h100", ASKED)
    table = plan_table(json.loads(json.dumps(got)))
    assert table.splitlines()[0] == "m: 70.6B parameters"
    assert f"{1e3 * got['decode']['serial_s']:.3f} ms" in table and f"{got['longest_context_tokens']:,} tokens" in table
    assert "12.9B for a token" in plan_table(
        plan_report("m", ModelConfig.from_preset("mixtral-8x7b"), "h100", Workload())
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16])
def test_numpys_integers_are_integers(dtype):
    config = ModelConfig.from_preset("gpt2")
    got = plan_report("m", config, "h100", Workload(batch=dtype(100), context=dtype(127), chips=dtype(2)))
    assert got == plan_report("m", config, "h100", Workload(batch=100, context=127, chips=2))
    json.dumps(got)
    found = sweep("m", config, "h100", Workload(), "batch", [dtype(1), dtype(2)])
    assert list(found.reports) == [1, 2]
    json.dumps([found.reports, found.points()])
    assert sweep_values("chips", dtype(1), dtype(9)) == [1, 2, 4, 8]


@pytest.mark.parametrize("wrong", [True, 2.0, "2"])
def test_what_is_no_count_is_refused(wrong):
    for name in ("batch", "context", "chips"):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            plan_report("m", LLAMA, "h100", Workload(**{name: wrong}))
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            sweep("m", LLAMA, "h100", Workload(), name, [wrong])
        with pytest.raises(TypeError, match="first must be an integer"):
            sweep_values(name, wrong, 9)


def test_a_sweep_keeps_what_has_a_plan_and_says_why_the_rest_has_none():
    found = sweep("m", LLAMA, "h100", ASKED, "chips", [1, 2, 4, 8])
    assert (list(found.reports), list(found.refused)) == ([4, 8], [1, 2])
    assert found.reports[4] == plan_report(
        "m", LLAMA, "h100", Workload(batch=32, context=8192, weights="int8", chips=4)
    )
    assert found.points()[0][0] == 4 and found.points()[0][3] == 4
    table = sweep_table(found)
    assert len(table.splitlines()) == 4 and "2 of 4 do not fit, first at chips 1: " in table
    with pytest.raises(ValueError, match=r"no chips from 1 to 2 has a plan: .* is the least that weights"):
        sweep("m", LLAMA, "h100", ASKED, "chips", [1, 2])
    with pytest.raises(ValueError, match="name must be one of 'batch', 'context', 'chips', got 'layers'"):
        sweep("m", LLAMA, "h100", ASKED, "layers", [1])


def test_the_values_of_a_sweep():
    assert sweep_values("context", 3, 3) == [3] and sweep_values("chips", 3, 3) == [3]
    many = sweep_values("batch", 1, 512)
    assert len(many) <= 40 and (many[0], many[-1]) == (1, 512) and many == sorted(set(many))
    for name in SWEPT:
        for first, last in ((0, 4), (5, 1)):
            with pytest.raises(ValueError, match="must be at least"):
                sweep_values(name, first, last)


def test_the_listings():
    models, chips = models_report(), chips_report()
    assert list(models) == list(PRESETS) and list(chips) == list(cost.CHIPS)
    assert models["llama-3-8b"]["parameters"] == 8_030_261_248
    for table, names in ((models_table(models), PRESETS), (chips_table(), cost.CHIPS)):
        assert [line.split()[0] for line in table.splitlines()[1:]] == list(names)
    counts = (999_999, 1e6, 999.4e6, 999.5e6, 12_345e6, 2e12, 1.2e15)
    assert [short_count(n) for n in counts] == ["999999", "1M", "999M", "1B", "12.3B", "2T", "1200T"]
    assert "e+" not in models_table(models), "a number is written with an exponent"
