"""`python -m tfguide.bench.trade` and `.repair`: ways to make a model smaller, with quality, time and repair."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tests.tasks.test_continuations import Bytes
from tfguide import cost
from tfguide.bench import repair, trade
from tfguide.bench.models import bytes_read, weights_size
from tfguide.bench.variants import VARIANTS, repaired_name
from tfguide.compress import Quantization
from tfguide.config import ModelConfig
from tfguide.tasks import documentation
from tfguide.tasks.continuations import questions
from tfguide.training import Recipe

pytest.importorskip("tokenizers")
BY_NAME = {variant.name: variant for variant in VARIANTS}
CONFIG = small_config(
    d_model=32, d_head=16, n_heads=4, n_kv_heads=2, d_ff=96, n_layers=3, positions="rotary", norm="rms",
    activation="swiglu", max_positions=400,
)  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, 37, (9, 24))


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_variant_has_its_quality_its_bytes_and_the_time_of_its_like(name, small_limits, tmp_path):
    tg, weights = load(name), random_weights(CONFIG)
    kept = tg.from_weights(CONFIG.replace(n_kv_heads=1), random_weights(CONFIG.replace(n_kv_heads=1)))
    tg.save_checkpoint(kept, tmp_path / "pooled heads")
    models = dict(trade.make_models(tg, CONFIG, weights, TOKENS, VARIANTS, str(tmp_path)))
    rows = list(trade.measure_quality(iter(models.items()), TOKENS.ravel(), Bytes(), questions(2)))
    timed = {variant.name: models[variant.name] for variant in VARIANTS if variant.like is None}
    found = trade.measure_steps(timed, {n: BY_NAME[n].dtype for n in timed}, TOKENS[:1, :5], 3, 2)
    rows = trade.complete(trade.merge(rows, found))
    assert [row["name"] for row in rows] == [*BY_NAME, repaired_name("pooled heads")]
    by = {row["name"]: row for row in rows}
    for row in rows:
        assert 1 < row["perplexity"] < 200 and row["accuracy"] in (0, 0.5, 1)
        assert row["seconds"] > 0 and row["speed"] > 0 and row["predicted_seconds"] > 0
    assert by["float32"]["speed"] == 1 and by["2 of 4"]["bytes"] == by["float32"]["bytes"]
    assert by["4 bits, calibrated"]["seconds"] == by["4 bits"]["seconds"]
    assert by["any half"]["timed_as"] == "2 of 4" and by["pooled heads, trained further"]["timed_as"] == "pooled heads"
    assert by["float32"]["weights_bytes"] == 4 * cost.parameters(CONFIG) == 2 * by["bfloat16"]["weights_bytes"]
    assert by["8 bits"]["weights_bytes"] == weights_size(CONFIG, Quantization(8))["n_bytes"]
    shapes = {name: ModelConfig.from_dict(by[name]["config"]) for name in by}
    assert shapes["fewer neurons"].d_ff == 64 and shapes["fewer layers"].n_layers == 2
    assert shapes["pooled heads"].n_kv_heads == 1
    assert by["fewer neurons"]["bytes"] == bytes_read(shapes["fewer neurons"], "float32", 6)
    whole = tg.perplexity(tg.from_weights(CONFIG, weights), TOKENS.ravel(), 256, 255)
    assert by["float32"]["perplexity"] == pytest.approx(whole, rel=1e-4)
    assert len(trade.table(rows).splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_training_repairs_pooled_heads(name):
    tg, text = load(name), np.tile(np.arange(37), 30)
    model = tg.pool_kv_heads(tg.from_weights(CONFIG, random_weights(CONFIG)), 1)
    recipe = Recipe(steps=12, warmup=2, rows=3, length=16, measure_every=6, learning_rate=0.02)
    curve = list(repair.repair(tg, model, text, text[:60], recipe))
    assert [point["steps"] for point in curve] == [0, 6, 12]
    assert curve[2]["perplexity"] < 0.7 * curve[0]["perplexity"]


def test_the_command_lines_go_on_with_a_file(small_limits, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    text = documentation.held_out()[:30000]
    texts = {"fractions": text[:9000], "textwrap": text[9000:]}
    monkeypatch.setattr(documentation, "documents", lambda: texts)
    monkeypatch.setattr(trade, "CALIBRATION", Recipe(steps=2, warmup=0, rows=2, length=16))
    common = ["--model", "documentation", "--tokens", "40"]
    about = [*common, "--json", str(tmp_path / "repair.json"), "--keep", str(tmp_path / "kept")]
    assert repair.main([*about, "--only", "pooled heads", "--steps", "2", "--warmup", "0", "--rows", "2"]) == 0
    result = json.loads((tmp_path / "repair.json").read_text())
    assert [point["steps"] for point in result["rows"][0]["curve"]] == [0, 2] and result["recipe"]["steps"] == 2
    about = [*common, "--json", str(tmp_path / "trade.json"), "--questions", "2", "--repaired", str(tmp_path / "kept")]
    for part, only in (("quality", "float32"), ("quality", "pooled heads")):
        assert trade.main([*about, "--part", part, "--only", only]) == 0
    assert trade.main([*about, "--part", "time", "--only", "float32", "pooled heads", "--repeats", "1"]) == 0
    result = json.loads((tmp_path / "trade.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["float32", "pooled heads", "pooled heads, trained further"]
    assert result["rows"][2]["seconds"] == result["rows"][1]["seconds"]
    assert result["rows"][2]["perplexity"] != result["rows"][1]["perplexity"]  # another model: two steps repair nothing
    assert "pooled heads, trained further" in capsys.readouterr().out
