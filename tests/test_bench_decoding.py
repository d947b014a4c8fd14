"""`python -m tfguide.bench.decoding`: what is measured of choosing, of continuations and of beams."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide import Sampling, cost
from tfguide.bench.decoding import CHOSEN, table, time_beams, time_choosing, write_texts
from tfguide.bench.written import judge, repeated_share

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "smollm2" / "decoding.json"


def small(name):
    config = small_config(positions="rotary", n_kv_heads=2, n_layers=2, max_positions=64, tied_head=False)
    weights = random_weights(config)
    weights["embedding.token.weight"] *= 50
    module = load(name)
    return module, module.from_weights(config, weights), np.random.default_rng(0).integers(0, config.vocab_size, (3, 7))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_continuation_is_judged_by_the_model_and_by_what_it_repeats(name):
    module, model, prompts = small(name)
    written = module.generate(model, prompts.tolist(), 11, [])
    found = judge(model, prompts, written)
    beams = module.beam_search(model, prompts.tolist(), 1, 11, [])  # greedy, with the sum of the log probabilities
    want = np.mean([best[0].log_probability / 11 for best in beams])
    assert found["mean_log_probability"] == pytest.approx(want, abs=1e-4)
    assert found["tokens"] == written[0]
    assert repeated_share([1, 2, 3, 4, 5]) == 0 and repeated_share([7] * 13) == pytest.approx(0.9)
    assert judge(model, prompts, [[1, 2, 3, 4], [1, 2, 3, 5], [5, 5, 5, 5]])["distinct"] == pytest.approx(5 / 9)
    with pytest.raises(ValueError, match="a text of 4 tokens or more, got 3"):
        repeated_share([1, 2, 3])


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_timed_and_found(name):
    _, model, prompts = small(name)
    choosing = time_choosing(model, prompts, 3, repeats=1)
    assert [row["way"] for row in choosing] == list(CHOSEN)
    assert all(row["rows"] == 3 and min(row["seconds"], row["whole_seconds"], row["step_seconds"]) > 0
               for row in choosing)  # fmt: skip
    writers = {"greedy": Sampling(temperature=0.0), "hot": Sampling(temperature=3.0)}
    text = {"way": "the text itself"} | judge(model, prompts, prompts.tolist())
    texts = write_texts(model, prompts, 11, writers)
    assert [row["way"] for row in texts] == ["greedy", "hot"]
    assert texts[0]["mean_log_probability"] > texts[1]["mean_log_probability"]
    beams = time_beams(model, prompts, 11, 1000.0, widths=(1, 5), repeats=1)
    assert [row["n_beams"] for row in beams] == [1, 5]
    assert beams[0]["tokens"] == texts[0]["tokens"]
    assert beams[1]["log_probability"] >= beams[0]["log_probability"]
    for row in beams:
        assert row["bytes"] == 1000 + cost.kv_bytes(model.config, row["n_beams"], 12, "float16")
        assert row["log_probability"] == pytest.approx(11 * row["mean_log_probability"], abs=0.05)  # a cache of 16 bits
    lines = table({"choosing": choosing, "text": text, "texts": texts, "beams": beams}).splitlines()
    assert len(lines) == 3 + len(choosing) + 3 + 2 * len(beams)


def test_the_page_says_what_was_measured():
    found = json.loads(MEASURED.read_text())
    texts = {row["way"]: row for row in (found["text"], *found["texts"])}
    real, greedy = texts["the text itself"], texts["greedy"]
    assert greedy["mean_log_probability"] > real["mean_log_probability"]
    assert greedy["repeated"] > 2 * real["repeated"]
    heats = [texts[f"temperature {t}"]["mean_log_probability"] for t in ("0.5", "0.75", "1", "1.25", "1.5")]
    assert heats == sorted(heats, reverse=True)
    beams = found["beams"]
    assert beams[-1]["log_probability"] > beams[0]["log_probability"]
    assert beams[-1]["repeated"] > 2 * beams[0]["repeated"]
    near = [texts[way] for way in ("top-k 40", "top-p 0.9")]
    assert all(abs(row["mean_log_probability"] - real["mean_log_probability"]) < 1 for row in near)
    assert all(row["repeated"] <= real["repeated"] for row in near)
    assert all(row["seconds"] < row["whole_seconds"] for row in found["choosing"])
    for way in CHOSEN:  # without the quick way, choosing would be a larger part of a step of more rows
        one, many = (row["whole_seconds"] / row["step_seconds"] for row in found["choosing"] if row["way"] == way)
        assert one < many


def test_the_tables_and_the_figure_show_it():
    plt = pytest.importorskip("matplotlib.pyplot")
    from tfguide.figures import decoding

    found = json.loads(MEASURED.read_text())
    for rows in (1, 16):
        shown = decoding.choosing_table(found, rows).data
        own = [row for row in found["choosing"] if row["rows"] == rows]
        assert all(f"<td>{row['seconds'] / row['step_seconds']:.1%}</td>" in shown for row in own)
    shown = decoding.texts_table(found).data.replace("\u2212", "-")
    assert all(f"<td>{row['way']}</td><td>{row['mean_log_probability']:.2f}</td>" in shown for row in found["texts"])
    shown = decoding.beams_table(found).data
    seconds = [decoding.step_seconds(row) for row in found["beams"]]
    assert all(f"<td>{own / seconds[0]:.2f}\u00a0x</td>" in shown for own in seconds)
    figure = decoding.texts_by_temperature(found)
    upper = figure.axes[0].lines[0]
    assert list(upper.get_xdata()) == [0, 0.5, 0.75, 1, 1.25, 1.5]
    by = {row["temperature"]: row for row in found["texts"] if row["way"].startswith("temperature")}
    assert list(upper.get_ydata())[1:] == [by[t]["mean_log_probability"] for t in sorted(by)]
    plt.close(figure)


def test_the_figure_of_a_distribution_shows_its_probabilities():
    plt = pytest.importorskip("matplotlib.pyplot")
    from tfguide.figures import decoding
    from tfguide.generation import probabilities

    logits = np.random.default_rng(0).normal(0, 3, 500)
    figure = decoding.temperatures([f" {i}" for i in range(10)], logits)
    upper, lower = figure.axes
    for k, value in enumerate((0.5, 1.0, 1.5)):
        want = np.sort(probabilities(logits[None], Sampling(temperature=value))[0])[::-1]
        np.testing.assert_allclose([bar.get_width() for bar in upper.containers[k]], want[:10])
        n = decoding.kept(logits, Sampling(temperature=value, top_p=0.9))
        assert want[:n].sum() >= 0.9 > want[: n - 1].sum()
        assert lower.lines[2 * k + 1].get_xdata() == [n]
    plt.close(figure)
    shown = decoding.kept_table({"a": logits}, {"top-k 40": Sampling(top_k=40)}).data
    p = np.sort(probabilities(logits[None], Sampling())[0])[::-1]
    assert f"<td>40</td><td>{p[:40].sum():.1%}</td>" in shown
