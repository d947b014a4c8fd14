"""`python -m tfguide.bench.recall` and `needle`: what is asked and kept, and what the page makes of the JSON."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide.bench import needle, recall
from tfguide.tasks import recall as task
from tfguide.tasks.documentation import tokenizer
from tfguide.tasks.needle import FACTS, plant

BENCHMARKS = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks"
FEW = dataclasses.replace(recall.RECIPE, steps=3, warmup=1)


def test_both_frameworks_train_alike_and_score_alike():
    pytest.importorskip("tensorflow"), pytest.importorskip("torch")
    one, two = (recall.train_recall(load(name), "rotary", FEW) for name in FRAMEWORKS)
    assert one[1] == pytest.approx(two[1], rel=2e-3) and len(one[1]) == 3
    _, weights = task.load("rotary")
    for name, other in (FRAMEWORKS, FRAMEWORKS[::-1]):
        row = recall.measure_recall(load(name), load(other), "rotary", weights, (8, 30))
        assert row["difference"] <= 0.03 and row["distances"] == [8, 30]
        assert row["short"][1] > 0.8 and len(row["long"]) == 2
    assert len(recall.table([row]).splitlines()) == 3


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_needle_is_asked_for_in_each_way_to_keep_the_text(name, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(needle, "WINDOW", 60)
    monkeypatch.setattr(needle, "CHUNK", 50)
    bpe = tokenizer()
    config = small_config(positions="rotary", vocab_size=bpe.get_vocab_size(), max_positions=400)
    weights = random_weights(config)
    rows = list(needle.measure_needles(load(name), config, weights, bpe, (211,), needle.KEPT, (0, 2)))
    assert [(row["kept"], row["order"]) for row in rows] == [(kept, order) for kept in needle.KEPT for order in (0, 2)]
    planted = plant(bpe, 211, 2)
    for row in rows:
        assert row["found"] == [False] * 5 and len(row["written"]) == 5  # random weights know nothing
        assert "....." in needle.show(row)
    masked = config.replace(sliding_window=60)
    model = load(name).from_weights(masked, weights)  # the window as a mask over the whole text
    for question, written in zip(planted.questions, rows[3]["written"], strict=True):
        tokens = planted.tokens + question
        for _ in range(needle.N_NEW):
            tokens = [*tokens, int(model.score(np.array([tokens]), None, 1)[0, -1].argmax())]
        assert bpe.decode(tokens[-needle.N_NEW :]) == written
    with pytest.raises(ValueError, match="kept must be one of"):
        needle.windowed(config, "some")


def test_the_trained_models_are_what_the_page_says():
    pytest.importorskip("torch")
    far = {}
    for kind in task.KINDS:
        model = load("torch").from_weights(*task.load(kind))
        far[kind] = recall.scores(model, (32, 128, 510), rows=16)
        assert far[kind]["short"][0] > 0.85
    assert all(min(far[kind]["short"] + far[kind]["long"]) > 0.85 for kind in ("alibi", "none"))
    assert max(far["rotary"]["short"][1:] + far["rotary"]["long"][1:]) < 0.6 and far["rotary"]["long"][0] > 0.85
    assert min(far["sinusoidal"]["short"]) > 0.85 and min(far["sinusoidal"]["long"][:2]) < 0.95


def test_what_was_measured_of_needles_is_what_the_page_says():
    result = json.loads((BENCHMARKS / "smollm2" / "needle.json").read_text())
    for row in result["rows"]:
        planted = [end for _, end in FACTS[row["order"] :] + FACTS[: row["order"]]]
        assert row["found"] == [text.strip().startswith(end) for text, end in zip(row["written"], planted, strict=True)]
        if row["kept"] in ("newest", "sinks"):
            gone = [distance > result["window"] for distance in row["distances"]]
            assert not any(found and away for found, away in zip(row["found"], gone, strict=True))


@pytest.fixture
def pictures():
    pytest.importorskip("matplotlib"), pytest.importorskip("IPython")
    from tfguide.figures import length

    return length


def test_curves_and_maps_show_the_rows(pictures):
    import matplotlib.pyplot as plt

    n = len(recall.DISTANCES)
    shares = {kind: {"short": [k / n for k in range(n)], "long": [1 - k / n for k in range(n)]} for kind in task.KINDS}
    figure = pictures.recall_curves(shares)
    for ax, kind in zip(figure.axes, ("short", "long"), strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
        for positions, values in shares.items():
            assert lines[pictures.NAMES[positions]] == values[kind]
    shown = pictures.recall_table(shares, "long", (4, 510)).data
    assert "<td>ALiBi</td>" in shown and shown.count(">100%<") == len(task.KINDS)
    planted = json.loads((BENCHMARKS / "smollm2" / "needle.json").read_text())
    rows = [row for row in planted["rows"] if row["kept"] == "all"]
    lengths, depths, found, asked = pictures.found_at(planted, "all")
    assert found.sum() == sum(sum(row["found"]) for row in rows) and asked.sum() == 5 * len(rows)
    texts = [text.get_text() for text in pictures.needle_map(planted).axes[0].texts]
    assert texts == [f"{found[y, x]}/{asked[y, x]}" for y in range(len(lengths)) for x in range(len(depths))]
    kept = pictures.kept_map(planted, 2000).axes[0]
    names = [label.get_text() for label in kept.get_yticklabels()]
    assert names == [name for name in pictures.KEPT.values() if name in names] and "window" in names
    plt.close("all")
