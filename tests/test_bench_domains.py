"""`python -m tfguide.bench.domains`: a row for each model and set, the same in both frameworks, on toy sizes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS
from tfguide.bench import domains
from tfguide.tasks import tones

BENCHMARKS = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks"


def shorter(task, steps):
    return replace(task, recipe=replace(task.recipe, steps=steps, warmup=0))


@pytest.fixture(scope="module")
def found():
    return {}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_images_have_a_row_for_each_way_to_make_the_model_smaller(name, found):
    pytest.importorskip("sklearn")
    task = shorter(domains.digits_task("small", size=4, d_model=16, d_ff=16, n_layers=1), 12)
    rows = list(domains.measure(name, task, smaller=True))
    assert [row["about"] for row in rows] == ["small", "bfloat16", "8 bits", "4 bits", "half of each matrix"]
    assert {row["tokens"] for row in rows} == {4} and {row["set"] for row in rows} == {"every fifth"}
    sizes = [row["n_bytes"] for row in rows]
    assert sizes[0] == sizes[-1] == 4 * rows[0]["parameters"] == 2 * sizes[1] and sizes[3] < sizes[2] < sizes[0]
    assert abs(rows[1]["scores"]["accuracy"] - rows[0]["scores"]["accuracy"]) < 0.05
    assert len(rows[0]["losses"]) == 12 and min(rows[0]["losses"]) < rows[0]["losses"][0]
    np.testing.assert_allclose(rows[0]["losses"], found.setdefault("digits", rows[0]["losses"]), rtol=1e-3)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_sounds_are_scored_as_sequences(name, found, monkeypatch):
    monkeypatch.setattr(domains, "NOISES", (0.2,))
    task = shorter(domains.tones_task("small", learned=12, held_out=3), 2)
    rows = list(domains.measure(name, task))
    assert [row["set"] for row in rows] == ["as learned", "noise 0.2", "longer"]
    assert rows[2]["tokens"] > rows[0]["tokens"] and set(rows[0]["scores"]) == {"exact match", "error rate", "patches"}
    assert 0 <= rows[0]["scores"]["patches"] <= 1
    np.testing.assert_allclose(rows[0]["losses"], found.setdefault("tones", rows[0]["losses"]), rtol=1e-3)
    right = {set_: batch.labels for set_, batch in task.held_out.items()}
    assert all(task.score(set_, labels)["exact match"] == 1 for set_, labels in right.items())


def test_patches_alone_are_scored_as_those_of_recordings(monkeypatch):
    monkeypatch.setattr(domains, "NOISES", ())
    whole, alone = (domains.tones_task("small", learned=4, held_out=3, alone=one) for one in (False, True))
    batch = alone.batch_at(0)
    assert batch.inputs["tokens"].shape[1:] == (1, tones.FRAMES * tones.BANDS) and batch.labels.shape[1] == 1
    assert len(batch.labels) == (whole.batch_at(0).labels > -1).sum()  # padding is no patch
    for name, batch in alone.held_out.items():
        labels = np.random.default_rng(0).integers(11, size=batch.labels.shape)
        assert alone.score(name, labels) == whole.score(name, labels.reshape(whole.held_out[name].labels.shape))


@pytest.mark.parametrize("part", domains.PARTS)
def test_the_committed_rows_are_what_the_pages_say(part):
    """The book's model has the same first losses in both frameworks, and its scores are above a floor."""
    rows = json.loads((BENCHMARKS / f"{part}.json").read_text())["rows"]
    base = [row for row in rows if row["about"] == "the book's model" and row["set"] in ("every fifth", "as learned")]
    assert {row["framework"] for row in base} == {"torch", "tensorflow"}
    runs = {row["framework"]: row["losses"] for row in base}
    np.testing.assert_allclose(runs["torch"][:10], runs["tensorflow"][:10], rtol=1e-3)
    if part == "digits":
        assert min(row["scores"]["accuracy"] for row in base) >= 0.97
    else:
        linear = next(row for row in rows if row["about"] == "logistic regression" and row["set"] == "as learned")
        assert max(row["scores"]["error rate"] for row in base) < linear["scores"]["error rate"] / 2
