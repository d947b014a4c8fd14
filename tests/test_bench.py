"""The benchmark runs, compares logits before it times, and says what it ran on."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS
from tfguide.bench import prefill, timing

TINY = prefill.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=48, vocab_size=97
)
MODES = {"torch": 1, "tensorflow": 3}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_prefill_is_timed_beside_the_peer(name):
    rows = prefill.measure(name, n_tokens=17, repeats=2, config=TINY)
    assert len(rows) == MODES[name]
    for row in rows:
        assert row["largest_difference"] < 1e-4
        assert row["tfguide_seconds"] > 0
        assert row["ratio"] > 0


def test_contestants_that_disagree_are_not_timed(monkeypatch):
    calls = {"tfguide": lambda: np.zeros(3), "peer": lambda: np.array([0, 0.01, 0])}
    monkeypatch.setitem(prefill.FRAMEWORKS, "torch", (lambda folder, tokens: {"float32": calls}, "a peer"))
    with pytest.raises(RuntimeError, match=r"tfguide and a peer differ by 0\.01"):
        prefill.measure("torch", 5, 1, TINY)


def test_results_are_written_with_the_machine(monkeypatch, tmp_path, capsys):
    row = dict(mode="m", peer="p", tfguide_seconds=1.0, peer_seconds=2.0, ratio=0.5)
    monkeypatch.setattr(prefill, "measure", lambda *arguments: [row])
    assert prefill.main(["--framework", "torch", "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["prefill"][0]["ratio"] == 0.5
    assert result["machine"]["cores"] >= 1
    assert "torch" in result["machine"]["versions"]
    assert "ratio 0.50" in capsys.readouterr().out
    for wrong in (["--tokens", "0"], ["--tokens", "9999"], ["--repeats", "0"], ["--framework", "jax"]):
        with pytest.raises(SystemExit):
            prefill.main(["--framework", "torch", *wrong])


def test_contestants_take_turns():
    order = []
    seconds = timing.take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert timing.median_ratio({"a": [1.0, 8.0, 3.0], "b": [2.0, 2.0, 2.0]}, "a", "b") == 1.5
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        timing.take_turns({}, repeats=0)
