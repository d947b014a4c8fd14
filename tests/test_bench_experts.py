"""A mixture is timed like any model, its bytes are those of the experts that are read, and their number is counted."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import refuses
from tfguide import Experts, cli, cost
from tfguide.bench import experts, models, ours, rows, run

pytestmark = pytest.mark.usefixtures("small_limits")
SIZES = dict(d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, vocab_size=97)
TINY = models.SMALL_MIXTURE.replace(**SIZES, d_ff=32, experts=Experts(n_experts=5, per_token=2, d_expert=32))


def test_the_mixture_of_the_benchmark_has_the_active_size_of_the_small_model():
    small, mixture = models.MODELS["S"], models.MODELS["S-MoE"]
    router = 12 * 768 * 8
    assert cost.active_parameters(mixture) == cost.parameters(small) + router
    assert cost.parameters(mixture) == cost.parameters(small) + router + 12 * 6 * 3 * 768 * 1024
    assert experts.without_experts(mixture) == small
    for dtype, each in (("float32", 4), ("bfloat16", 2)):
        more = models.bytes_read(mixture, dtype, 80) - models.bytes_read(small, dtype, 80)
        assert more == 4 * router  # in float32, whatever the type of the others
        read = models.bytes_read(mixture, dtype, 80, experts_read=3.5) - models.bytes_read(mixture, dtype, 80)
        assert read == 1.5 * 12 * 3 * 768 * 1024 * each


def test_the_bytes_of_packed_experts():
    """Each expert has its own scales: 4 bytes for an output of 8-bit weights."""
    shared = models.bytes_read(TINY, "int8", 10, experts_read=0)
    one = 2 * (3 * 32 * 32 + 4 * 3 * 32)
    assert models.bytes_read(TINY, "int8", 10) == shared + 2 * one
    assert models.bytes_read(TINY, "int8", 10, experts_read=5) == shared + 5 * one
    quantization = models.Quantization(8)
    assert models.weights_size(TINY, quantization)["multiplied_bytes"] == shared + 5 * one - 2 * 2 * 2 * 2 * 8 * 10


@pytest.mark.parametrize("task", ["decode", "prefill"])
def test_a_mixture_is_timed_beside_hugging_face_and_llama_cpp(task, peer, monkeypatch):
    monkeypatch.setattr(run, "is_clear", lambda seconds: True)  # of a tiny model, on a busy machine
    monkeypatch.setattr("tfguide.bench.contestants.LlamaCpp", None)  # the one of the tests reads many rows only
    found = {row["name"]: row for row in run.bench(task, TINY, ["torch"], ["float32"], True, [7], 3, 1)["rows"]}
    assert found["tfguide"]["tokens"] == found["Hugging Face"]["tokens"] and "error" not in found["Hugging Face"]
    assert found["llama.cpp"]["error"] == "not installed"


def test_keras_hub_says_that_it_does_not_run_a_mixture():
    found = run.bench("prefill", TINY, ["tensorflow"], ["float32"], True, [7], 1, 1)["rows"]
    assert [row.get("error") for row in found] == [
        None, "ValueError: KerasHub is timed by its Llama, which has no experts",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_rows_of_a_mixture_are_timed_with_the_experts_that_they_read(dtype, peer):
    result = rows.bench_rows(TINY, ["torch"], [dtype], True, [3], 7, 2, 1, 11)
    assert json.loads(json.dumps(result)) == result
    found = {(row["name"], row["batch"]): row for row in result["rows"]}
    assert set(found) == {(name, n) for name in ("tfguide", "llama.cpp") for n in (1, 3)}
    assert found["tfguide", 1]["experts_read"] == 2 <= found["tfguide", 3]["experts_read"] <= 5
    assert "experts_read" not in found["llama.cpp", 3] and "experts" in rows.table(result)


def test_the_bound_of_many_rows_knows_that_they_read_more():
    """Two rows read half as much again as one: at most 4 steps in 3 seconds, not 4 in 2."""
    seconds = {"prompt": [1.0], ("tfguide", 1): [2.0], ("tfguide", 2): [3.0], ("llama.cpp", 2): [3.0]}
    found = {row["batch"]: row for row in rows.speeds(seconds, 2, 100, {1: 1.0, 2: 1.5}, {1: 2.0, 2: 3.25})[:2]}
    assert found[2]["share"] == pytest.approx(1) and found[2]["experts_read"] == 3.25
    assert rows.speeds(seconds, 2, 100)[1]["share"] == pytest.approx(2 / 3)


def test_counting_steps_gives_the_mean_of_a_layer(tmp_path):
    mixture = TINY.replace(n_layers=3, experts=Experts(n_experts=5, per_token=2, d_expert=32, n_dense_layers=1))
    decoder = ours.load_ours("torch", _written(tmp_path / "m", TINY), "float32")
    one = ours.OurRows(decoder, np.array([[3, 4]]), 4)
    one.read()
    assert one.experts_read(4) == 2.0 and not mixture.has_experts(0)


def test_the_number_of_experts_is_timed_from_one_to_all(tmp_path):
    kept = []
    result = experts.bench_experts(TINY, ["float32", "int4"], 3, 1, lambda r: kept.append(len(r["rows"])))
    assert json.loads(json.dumps(result)) == result and kept == [5, 10]
    assert [(row["dtype"], row["experts_read"]) for row in result["rows"]] == [
        (dtype, n) for dtype in ("float32", "int4") for n in (1, 2, 3, 4, 5)
    ]  # fmt: skip
    for row in result["rows"]:
        assert row["bytes"] == models.bytes_read(TINY, row["dtype"], 17, experts_read=row["experts"])
        assert row["seconds"] > 0 and ("over_dense" in row) == (row["experts"] == 2)
    assert all(f"{1e3 * row['seconds']:.2f}" in experts.table(result) for row in result["rows"])
    with refuses(ValueError, "the model has none"):
        experts.bench_experts(models.SMALL)
    for wrong in ({"n_new": 0}, {"repeats": 0}):
        with refuses(ValueError, "must be at least 1, got 0"):
            experts.bench_experts(TINY, **wrong)


def test_a_step_is_compared_with_its_bytes_and_with_the_dense_one():
    seconds = {1: [0.2, 0.4, 0.2], 2: [0.3, 0.3, 0.9], "dense": [0.2, 0.2, 0.6], "memory": [1.0, 1.0, 1.0]}
    one, two = experts.speeds(seconds, {1: 10, 2: 25, "dense": 20}, 2, 100, 2)
    assert (one["seconds"], two["seconds"]) == (0.1, 0.15) and "over_dense" not in one
    assert one["over_bytes"] == pytest.approx(1.0) and two["over_bytes"] == pytest.approx(0.6)
    assert two["over_dense"] == pytest.approx(1.5 * 20 / 25)


def test_the_command_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(models.MODELS, "S-MoE", TINY)
    file = tmp_path / "experts.json"
    assert cli.main(["bench", "experts", "--new-tokens", "2", "--repeats", "1", "--json", str(file)]) == 0
    result, printed = json.loads(Path(file).read_text()), capsys.readouterr().out
    assert (result["task"], result["model"], len(result["rows"])) == ("experts", "S-MoE", 5)
    assert all(f"{1e3 * row['seconds']:.2f}" in printed for row in result["rows"])
    assert cli.main(["bench", "experts", "--model", "S"]) == 2
    assert "the model has none" in capsys.readouterr().err


def _written(folder, config):
    models.write_model(folder, config)
    return str(folder)
