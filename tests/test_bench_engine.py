"""`python -m tfguide.bench.engine`: what the engine adds to bare steps, measured in turns."""

import json
import time

import pytest

from tfguide import native
from tfguide.bench import engine, models
from tfguide.figures.serving import engine_table
from tfguide.serving import Engine


@pytest.fixture
def small(monkeypatch):
    small = models.SMALL.replace(d_model=96, n_layers=2, d_ff=64, vocab_size=67, n_heads=6, n_kv_heads=3, d_head=32)
    monkeypatch.setitem(models.MODELS, "S", small)


def test_a_row_for_each_model_type_and_number_of_rows(small, tmp_path, capsys):
    file = tmp_path / "engine.json"
    command = f"--model S --dtype float32 int8 --framework none torch --rows 1 3 --repeats 2 --json {file}"
    assert engine.main(command.split()) == 0
    result = json.loads(file.read_text())
    assert [(row["dtype"], row["framework"], row["rows"]) for row in result["rows"]] == [
        (dtype, framework, n) for dtype in ("float32", "int8") for framework in ("none", "torch") for n in (1, 3)
    ]
    for row in result["rows"]:
        assert row["model"] == "S"
        assert all(row[key] > 0 for key in ("step_seconds", "paged_ratio", "engine_ratio", "python_seconds"))
    assert len(capsys.readouterr().out.splitlines()) == 1 + 8
    shown = engine_table(result).data
    assert shown.count("<tr>") == 1 + 8 and "none" in shown


def test_an_engine_that_is_slow_shows(small, monkeypatch):
    """The ratios are those of what is timed: here of an engine that sleeps for three bare steps."""
    bare = Engine.step
    with models.kept_model(models.MODELS["S"], None) as folder:
        model = native.load(folder, "int8")
        seconds = engine.measure(model, 2, repeats=3)["step_seconds"]
        monkeypatch.setattr(Engine, "step", lambda self: (time.sleep(3 * seconds), bare(self))[1])
        assert engine.measure(model, 2, repeats=3)["engine_ratio"] > 2
