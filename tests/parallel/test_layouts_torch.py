"""On real processes, every layout gives the layer's output, and sends what the formulas and the simulated mesh say."""

import json
import sys
from pathlib import Path

import pytest

from tests.parallel.layout_process import FAMILIES, TOKENS, TRIED, planned
from tfguide.bench.layout_cases import KV_HEADS, B, H, T, cases, d
from tfguide.bench.layouts import ONE_THREAD, main, measure, table
from tfguide.cost.chips import as_chip
from tfguide.sharding import LAYOUTS, ffn_communication
from tfguide.sharding.counts import model_communication
from tfguide.sharding.cuts import elements_of
from tfguide.sharding.launch import launch

SIZES = [2, 4, pytest.param(8, marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def rows():
    """A function: the rows of `measure` on n processes, which run once."""
    found = {}

    def find(n):
        if n not in found:
            found[n] = measure("torch", n)
        return found[n]

    return find


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """A function: what each of n processes has found in `layout_process`, which they do once."""
    results = {}

    def find(n):
        if n not in results:
            folder = tmp_path_factory.mktemp(f"processes-{n}")
            assert launch(n, [sys.executable, "-m", "tests.parallel.layout_process", str(folder)], ONE_THREAD) == 0
            results[n] = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(n)]
        return results[n]

    return find


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "head", "batch"])
def test_collectives_give_the_layer_and_send_what_the_formulas_say(rows, layout, n):
    own = [row for row in rows(n) if row["version"] == "collectives" and row["layout"] == layout]
    assert len(own) == sum(case.layout == layout for case in cases(n)) > 0
    for row in own:
        assert row["difference"] < 1e-13
        assert row["sent"] == row["expected"]  # step by step
        assert row["counted"] == row["closed_form"] == row["simulated"] > 0


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "head"])
def test_dtensors_give_the_layer_and_send_as_much(rows, layout, n):
    own = [row for row in rows(n) if row["version"] == "DTensor" and row["layout"] == layout]
    assert len(own) == sum(case.layout == layout for case in cases(n)) > 0
    for row in own:
        assert row["difference"] < 1e-13
        assert row["counted"] == row["closed_form"] == row["simulated"] > 0
        assert row["sent"].keys() <= {"all_gather", "reduce_scatter"}


@pytest.mark.parametrize("n", SIZES)
def test_dtensors_on_cpus_gather_where_an_all_to_all_would_do(rows, n):
    """PyTorch has no all-to-all of DTensors between CPUs: it gathers the whole, n times as much, and takes a part."""
    own = [row for row in rows(n) if row["version"] == "DTensor" and row["layout"] == "batch"]
    assert [row["kv_heads"] for row in own] == list(KV_HEADS)
    for row in own:
        assert row["difference"] < 1e-13
        once = row["expected"]["queries to sequences"]
        assert once == B * T * H * d / n * (n - 1) / n
        assert row["counted"] == row["closed_form"] + 2 * (n - 1) * once


def test_the_command_writes_the_rows(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tfguide.bench.layouts.measure", lambda framework, n: rows(n))
    file = tmp_path / "layouts.json"
    assert main(f"--processes 2 --framework torch --json {file}".split()) == 0
    assert json.loads(file.read_text())["rows"] == json.loads(json.dumps(rows(2)))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + 2 * len(cases(2)) and printed == table(rows(2)).splitlines()


def test_processes_that_fail_or_disagree_are_an_error(monkeypatch):
    monkeypatch.setattr("tfguide.bench.layouts.launch", lambda n, command, environment: 1)
    with pytest.raises(RuntimeError, match="the processes of torch have failed: status 1"):
        measure("torch", 2)

    def disagree(n, command, environment):
        for rank in range(n):
            sent = [{"difference": 0.0, "sent": {"all_gather": rank}} for _ in cases(n)]
            Path(command[-1], f"{rank}.json").write_text(json.dumps({"DTensor": sent}))
        return 0

    monkeypatch.setattr("tfguide.bench.layouts.launch", disagree)
    with pytest.raises(RuntimeError, match="the processes have sent different numbers of elements: Case"):
        measure("torch", 2)


@pytest.mark.parametrize(
    ("name", "n"),
    [pytest.param(name, n, marks=[pytest.mark.slow] * (n > 4)) for n, names in TRIED.items() for name in names],
)
def test_a_decoder_of_dtensors_is_that_of_one_process(found, name, n):
    config = FAMILIES[name]
    sent = model_communication(config, TOKENS.size, TOKENS.size, n)
    for one in found(n):
        own = one["families"][name]
        assert own["difference"] < 1e-5 and own["tokens"]
        assert own["sent"] == {"all_reduce": sum(sent.values()) - sent["logits"], "all_gather": sent["logits"]}
    if config.vocab_size % n == 0:  # else PyTorch gives the first processes more words, and the last ones fewer
        assert [one["families"][name]["held"] for one in found(n)] == [elements_of(config, n, r) for r in range(n)]


def test_caches_and_types_of_a_decoder_of_dtensors(found):
    for one in found(2):
        types = one["types"]
        assert types["float16 cache"] and types["int8 cache"] and types["engine"]
        assert types["bfloat16 difference"] < 0.05
        assert types["cache bytes"] == 2  # of one process over those of one of 2


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kv_heads", [1, 8])
def test_a_plan_is_run_as_it_stands(found, kv_heads, n):
    """Its mesh, layout and attention are the arguments, and what its step counts is what the processes send."""
    config, steps = planned(n, kv_heads)
    bandwidth = as_chip("tpu-v4").link_bandwidth
    for one in found(n):
        for phase, step in steps.items():
            own, tokens = one["plans"][str(kv_heads)][phase], step.batch * step.new_tokens
            assert own["difference"] < 1e-12
            network = ffn_communication(step.layout, tokens, config.d_model, config.d_ff, step.mesh, exact=True)
            assert own["feed-forward"] == network
            if step.layout == "1d-ws":  # in other layouts attention's own projections are divided as the network is
                elements = sum(own["feed-forward"].values()) + sum(own["attention"].values())
                assert step.communication_s == pytest.approx(config.n_layers * 2 * elements / bandwidth, rel=1e-12)


def test_the_plans_differ():
    plans = [step for n in (2, 4, 8) for kv_heads in (1, 8) for step in planned(n, kv_heads)[1].values()]
    assert {step.attention for step in plans} == {"batch", "head"}
    assert {"1d-ws", "2d-ws", "wg-x"} <= {step.layout for step in plans}
    assert any(step.layout == "1d-ws" for n in (2, 4) for step in planned(n, 1)[1].values())


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("mesh", "a mesh of 2 x 2 x 1 needs 4 processes, and 2 run"),
        ("device mesh", "a mesh of 1 x 1 x 1 needs 1 processes, and 2 run"),
        ("experts", "a mixture of experts cannot be divided as DTensors"),
        ("heads", "2 processes cannot divide 3 heads and 3 key/value heads evenly: choose 1, 3"),
        ("4 bits", "got int4"),
        ("layout", "did you mean '2d-ws'"),
        ("sequences", "2 processes cannot divide 3 sequences evenly"),
        ("attention heads", "2 processes cannot divide 1 heads evenly"),
    ],
)
def test_what_does_not_fit_is_refused(found, what, says):
    assert all(says in one["refusals"][what] for one in found(2))
