"""`tfguide bench waterfall`: every rung gives the tokens of the first one, and the parts of a step sum to it."""

import json

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS
from tfguide.bench import gap, models, waterfall
from tfguide.bench.waterfall import ladder
from tfguide.checkpoints import write_checkpoint
from tfguide.cli import main

pytestmark = pytest.mark.usefixtures("small_limits")
TINY = models.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97,
    max_positions=64,
)  # fmt: skip
TOKENS = np.random.default_rng(2).integers(0, 97, 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_checkpoint(path, TINY, tfguide.init_weights(TINY, seed=5))
    return path


def test_every_rung_continues_the_text_alike(folder):
    kept = []
    rungs = ladder(FRAMEWORKS, ["float32", "bfloat16", "int8"], compiled=False)
    result = waterfall.bench_waterfall(folder, TOKENS, rungs, 5, 2, 3, kept.append)
    assert json.loads(json.dumps(result)) == result == kept[-1]
    rows = result["rows"]
    assert [row["name"] for row in rows] == [
        *["no cache"] * len(FRAMEWORKS), *["a cache"] * len(FRAMEWORKS), "C++ kernels, 1 thread", "all threads",
        "bfloat16", "int8",
    ]  # fmt: skip
    for row in rows:
        assert row["seconds"] > 0 and row["over_bytes"] > 0
        assert len(row["tokens"]) == (3 if row["program"] == "again" else 5)
        if row["dtype"] == "float32":
            assert row["difference"] < 1e-5 and row["same_tokens"] == len(row["tokens"])
        else:
            assert 0 < row["difference"] < 0.1
    once, cached = (next(row for row in rows if row["program"] == kind) for kind in ("again", "cache"))
    assert once["bytes"] == models.bytes_read(TINY, "float32", 0)
    assert cached["bytes"] == models.bytes_read(TINY, "float32", 11 + 2)
    assert rows[len(FRAMEWORKS) * 2]["threads"] == 1
    assert len(waterfall.table(result).splitlines()) >= 2 + len(rows)


def test_a_compiled_step_is_a_rung_of_each_framework():
    rungs = ladder(("torch", "tensorflow"), ["float32"])
    assert [(rung.program, rung.framework) for rung in rungs[4:6]] == [
        ("compiled", "torch"),
        ("compiled", "tensorflow"),
    ]
    assert [rung.threads for rung in rungs] == [None] * 6 + [1, None]


def test_parts_that_were_put_in_are_found():
    """Times made from known parts: the differences give them back, and they sum to the step."""
    config = TINY.replace(n_layers=6, vocab_size=1000)
    n_new, lengths, bandwidth = 8, (20, 50), 1e9
    per_position, layer, head, waiting, call = 1e-6, 5e-5, 3e-4, 2e-5, 1e-5

    def step(length, layers=6, has_head=True):
        position = per_position * (length + n_new // 2) * layers / 6
        return position + layer * layers + has_head * head + call

    times = {
        "whole": step(20), "long": step(50), "half": step(20, 3), "headless": step(20, has_head=False),
        "narrow": call + waiting, "narrow, 1 thread": call, "narrow, 1 thread, 1 layer": call, "choice": 0.0,
    }  # fmt: skip
    for length in lengths:
        total, parts = gap.explain(times, config, "float32", lengths, length, n_new, bandwidth)
        assert total == pytest.approx(step(length)) and sum(parts.values()) == pytest.approx(total)
        context = length + n_new // 2
        assert parts["attention"] + parts["cache"] == pytest.approx(per_position * context)
        assert parts["head"] + parts["head_rest"] == pytest.approx(head)
        assert parts["head"] == pytest.approx(4 * 32 * (1000 - 64) / bandwidth)
        assert parts["layers"] + parts["weights"] + waiting == pytest.approx(6 * layer, abs=1e-12)
        assert parts["call"] == call and parts["rest"] == pytest.approx(0, abs=1e-12)
    assert list(parts) == list(gap.PARTS)


def test_the_command_measures_both_parts(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tfguide.bench.caches.read_documentation", lambda path, n: list(range(1, n + 2)))
    file = tmp_path / "waterfall.json"
    command = f"bench waterfall --model {folder} --framework {FRAMEWORKS[0]} --dtype int8 --new-tokens 2 --repeats 1"
    command += f" --lengths 5 11 --prompt 7 --no-compile --json {file}"
    assert main(command.split()) == 0
    result = json.loads(file.read_text())
    assert [row["dtype"] for row in result["rows"]] == ["float32"] * 3 + ["int8"]
    assert [row["context"] for row in result["gap"]] == [6, 12] and result["model"] == "tiny"
    for row in result["gap"]:
        assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
    shown = capsys.readouterr().out
    assert "no cache" in shown and gap.PARTS["waiting"] in shown
    before = result["rows"]
    assert main([*command.split(), "--part", "gap"]) == 0
    assert json.loads(file.read_text())["rows"] == before
    capsys.readouterr()
    assert main([*command.split(), "--repeats", "0"]) == 2
    assert "--repeats must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="two different lengths"):
        gap.bench_gap(TINY, ["int8"], lengths=(5, 5))
