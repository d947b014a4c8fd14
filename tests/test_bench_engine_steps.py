"""The steps of an engine are timed with what they compute and read, and give the cost of a step."""

import json

import numpy as np
import pytest

from tests.serving.hashing import HashModel
from tests.support import refuses
from tfguide.bench import engine_steps, models
from tfguide.cost import fit_step_cost


class Paced(HashModel):
    """A model that takes a time by what it computes, on a clock of its own."""

    now = 0.0

    def decode_rows(self, tokens, rows, cache, wanted, prompts):
        logits = super().decode_rows(tokens, rows, cache, wanted, prompts)
        Paced.now += 0.01 + 1e-3 * len(tokens) + 1e-6 * int(cache.lengths[np.unique(rows)].sum())
        return logits


def test_the_rows_say_what_was_computed_and_how_long_it_took(monkeypatch):
    monkeypatch.setattr(engine_steps.time, "perf_counter", lambda: Paced.now)
    found = engine_steps.measure_steps(Paced(300), (1, 3, 7), tokens=20, steps=40, most=100)
    assert [row["rows"] for row in found] == [1] * 4 + [3] * 4 + [7] * 4
    for row in found:
        assert row["rows"] <= row["tokens"] <= 20
        expected = 0.01 + 1e-3 * row["tokens"] + 1e-6 * row["positions"]
        assert row["seconds"] == pytest.approx(expected, rel=0.1)  # the median of a sum beside the sum of medians
    cost = fit_step_cost(*([row[name] for row in found] for name in ("tokens", "positions", "seconds")))
    assert (cost.step_s, cost.token_s) == pytest.approx((0.01, 1e-3), rel=0.1)
    with refuses(ValueError, "steps must be at least 4, got 3"):
        engine_steps.measure_steps(Paced(300), (1,), steps=3)


def test_the_command_writes_what_it_measured(tmp_path, capsys):
    config = models.SMALL.replace(
        d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97
    )
    models.write_model(tmp_path / "tiny", config)
    file = tmp_path / "steps.json"
    arguments = ["--model", str(tmp_path / "tiny"), "--dtype", "float32", "--rows", "1", "3", "--steps", "4"]
    assert engine_steps.main([*arguments, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["task"] == "engine steps" and len(result["rows"]) == 8 and result["settings"]["dtype"] == "float32"
    assert all(row["seconds"] > 0 and row["positions"] > 0 for row in result["rows"])
    assert len(capsys.readouterr().out.splitlines()) == 9
