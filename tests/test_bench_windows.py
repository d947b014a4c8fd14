"""`python -m tfguide.bench.windows`: a text through caches of a part of it, and what the page makes of the result."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide import cost
from tfguide.bench import windows
from tfguide.bench.windows import measure_windows, table

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "smollm2" / "windows.json"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_of_a_part_is_the_model_under_a_mask(name, monkeypatch):
    monkeypatch.setattr(windows, "PART", 17)
    config = small_config(positions="rotary", n_kv_heads=2, n_layers=2, max_positions=64)
    weights, tokens = random_weights(config), np.random.default_rng(0).integers(0, config.vocab_size, 42)
    rows = measure_windows(load(name), config, weights, tokens, sizes=(5, 43), sinks=(0, 2))
    about = [(row["size"], row["sinks"], row["layers"]) for row in rows]
    assert about == [
        (41, 0, "all"), (5, 0, "all"), (5, 2, "all"), (5, 0, "every second"),
        (43, 0, "all"), (43, 2, "all"), (43, 0, "every second"),
    ]  # fmt: skip
    masks = {1: {"sliding_window": 5}, 3: {"sliding_window": 5, "sliding_layers": (0,)}}
    for k, row in enumerate(rows):
        own = config.replace(**masks[k]) if k in masks else config
        if k != 2:  # a mask with sinks is no configuration: tests/test_caches.py holds that cache
            want = load(name).perplexity(load(name).from_weights(own, weights), tokens, 42)
            assert row["perplexity"] == pytest.approx(want, rel=1e-4)
        assert len(row["parts"]) == 3
        sums = sum(math.log(part) * n for part, n in zip(row["parts"], (17, 17, 7), strict=True))
        assert math.exp(sums / 41) == pytest.approx(row["perplexity"])
    assert rows[1]["bytes"] == rows[2]["bytes"] == cost.kv_bytes(config, 1, 5, "float32")
    assert abs(rows[2]["perplexity"] / rows[1]["perplexity"] - 1) > 1e-3
    assert len(table(rows).splitlines()) == 1 + len(rows)
    with pytest.raises(ValueError, match="room for more than its sinks, got 2 and 2"):
        measure_windows(load(name), config, weights, tokens, sizes=(2, 5), sinks=(0, 2))
    with pytest.raises(ValueError, match="without windows, got one with sliding_window=3"):
        measure_windows(load(name), config.replace(sliding_window=3), weights, tokens)


def test_the_page_shows_what_was_measured():
    plt = pytest.importorskip("matplotlib.pyplot")
    from tfguide.figures import tiles

    found = json.loads(MEASURED.read_text())
    rows = found["rows"]
    shown = re.findall(r"<td>([^<]+)</td><td>([\d.,]+)</td><td>([\d.,]+)\u00a0x</td><td>(\d+) MB</td>",
                       tiles.windows_table(found).data)  # fmt: skip
    want = [
        (f"{row['perplexity']:,.2f}", f"{row['perplexity'] / rows[0]['perplexity']:,.2f}", f"{row['bytes'] / 1e6:.0f}")
        for row in rows
    ]
    assert [line[1:] for line in shown] == want and len(rows) == 13
    assert [line[0] for line in shown[:5]] == [
        "the whole text", "the newest only", "the newest, 1 sink", "the newest, 4 sinks",
        "a window in every second layer",
    ]  # fmt: skip
    by = {(row["size"], row["sinks"], row["layers"]): row["perplexity"] for row in rows}  # what the page says of them
    assert by[256, 1, "all"] < by[1024, 0, "all"] and by[256, 4, "all"] > 0.99 * by[256, 1, "all"]
    assert by[256, 0, "every second"] > 0.95 * by[256, 0, "all"]
    figure = tiles.losses_by_position(found, 256)
    curves = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert curves["the whole text"] == rows[0]["parts"]
    assert curves["the newest, 4 sinks"] == next(r["parts"] for r in rows if (r["size"], r["sinks"]) == (256, 4))
    plt.close(figure)


def test_tiles_speed_prompts_and_not_steps():
    pytest.importorskip("matplotlib")
    from tfguide.figures import tiles

    result = json.loads((MEASURED.parents[1] / "zen5" / "lengths_SmolLM2.json").read_text())
    rows = {(row["name"], row["prompt"]): row for row in result["rows"]}
    lines = re.findall(r"<td>([\d,]+) tokens</td><td>([\d.]+)\u00a0x</td><td>([\d.]+)\u00a0x</td>",
                       tiles.flash_table(result).data)  # fmt: skip
    assert len(lines) == 4
    for length, *ratios in lines:
        plain, flash = (rows[name, int(length.replace(",", ""))] for name in ("llama.cpp", "llama.cpp, flash"))
        assert ratios == [f"{plain[key] / flash[key]:.2f}" for key in ("prompt_seconds", "seconds")]
