"""`python -m tfguide.bench.precision`: each type beside float32 on a small model, and what the page shows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide.bench.models import bytes_read
from tfguide.bench.precision import measure_types, table, time_types

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "smollm2" / "precision.json"


@pytest.fixture(scope="module")
def model():
    config = small_config(positions="rotary", n_kv_heads=2, max_positions=64)
    return config, random_weights(config), np.random.default_rng(0).integers(0, 37, 60)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_type_is_compared_with_the_first(name, model):
    tg, (config, weights, tokens) = load(name), model
    found = measure_types(tg, config, weights, tokens, window=12, compared=2, prompts=3, prompt=5, n_new=7)
    exact, bfloat16, float16 = found["rows"]
    assert [row["dtype"] for row in found["rows"]] == ["float32", "bfloat16", "float16"]
    assert (exact["largest_difference"], exact["divergence"], exact["same_choice"]) == (0, 0, 1)
    assert exact["first_differences"] == [7] * 3 and exact["gaps"] == []
    assert 0 < float16["largest_difference"] < bfloat16["largest_difference"] < 0.2
    assert 0 < float16["divergence"] < bfloat16["divergence"] < 1e-2
    plain, half = (tg.from_weights(config, weights, dtype) for dtype in ("float32", "bfloat16"))
    text = tokens[:24].reshape(2, 12)
    want = np.abs(plain.score(text) - half.score(text)).max()
    assert bfloat16["largest_difference"] == pytest.approx(want, rel=0.2)
    assert exact["perplexity"] == pytest.approx(tg.perplexity(plain, tokens, 12), rel=1e-6)
    for row in (bfloat16, float16):
        assert row["perplexity"] == pytest.approx(exact["perplexity"], rel=0.02)
        assert len(row["gaps"]) == sum(n < 7 for n in row["first_differences"])
        assert all(0 <= gap <= 2 * row["largest_difference"] + 1e-3 for gap in row["gaps"])
    assert 0 < found["gaps"]["1%"] <= found["gaps"]["10%"] <= found["gaps"]["50%"]
    assert len(table({"task": "precision", **found}).splitlines()) == 1 + 3
    with pytest.raises(ValueError, match="the number of tokens must be at least 84, got 60"):
        measure_types(tg, config, weights, tokens, window=12, compared=7, prompts=3, prompt=5)


def test_the_types_are_timed_in_turns(model):
    config, weights, tokens = model
    rows = time_types(load("torch"), config, weights, tokens, prompt=9, n_new=3, repeats=1)
    assert {(row["dtype"], row["by"]) for row in rows} >= {(d, "framework") for d in ("float32", "bfloat16", "float16")}
    for row in rows:
        assert row["step_seconds"] > 0 and row["prompt_seconds"] > 0
        assert row["bytes"] == bytes_read(config, row["dtype"], 10)
        assert row["n_bytes"] == sum(w.size for w in weights.values()) * (4 if row["dtype"] == "float32" else 2)


def test_the_page_shows_what_was_measured():
    pytest.importorskip("IPython")
    from tfguide.figures import precision

    found = json.loads(MEASURED.read_text())
    shown = re.findall(r"<tr><td>(.*?)</td></tr>", precision.types_table(found).data)
    assert len(shown) == len(found["rows"]) == 3
    for row, line in zip(found["rows"], shown, strict=True):
        cells = line.split("</td><td>")
        equal = sum(n == found["n_new"] for n in row["first_differences"])
        assert cells[0] == row["dtype"] and cells[1] == f"{row['perplexity']:.3f}"
        assert cells[3] == f"{row['largest_difference']:.3f}" and cells[-1] == f"{equal} of {found['prompts']}"
    found = json.loads(MEASURED.with_name("precision_times.json").read_text())
    assert len(table(found).splitlines()) == 1 + len(found["rows"]) == 7
    times = precision.times_table(found).data
    for row in found["rows"]:
        assert f"<td>{1e3 * row['step_seconds']:.1f} ms</td><td>{row['prompt_seconds']:.2f} s</td>" in times
