"""The figures of the training page draw what the runs say."""

import json

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from tests.test_figures_tables import APPENDICES  # noqa: E402  (after the check for the package)
from tfguide.figures import training  # noqa: E402
from tfguide.training import Recipe  # noqa: E402


@pytest.fixture(scope="module")
def runs():
    return {name: json.loads((APPENDICES / f"training_{name}.json").read_text()) for name in ("torch", "tensorflow")}


def test_the_runs_that_are_shown_are_those_of_the_defaults(runs):
    for name, run in runs.items():
        assert run["framework"] == name and Recipe(**run["recipe"]) == Recipe()
        assert len(run["loss"]) == len(run["norm"]) == Recipe().steps
        assert [step for step, _ in run["perplexity"]] == list(range(100, Recipe().steps + 1, Recipe().measure_every))
    assert training.differences(runs)[:20].max() < 1e-3  # before rounding has grown
    assert runs["torch"]["tokens"] == runs["tensorflow"]["tokens"]
    last = [run["perplexity"][-1][1] for run in runs.values()]
    assert last[0] == pytest.approx(last[1], rel=0.05)


def test_the_schedule_is_that_of_the_recipe():
    recipe = Recipe(steps=30, warmup=5)
    (line, mark) = training.schedule(recipe).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1e3 * recipe.rate_of(step) for step in range(30)])
    assert mark.get_xdata()[0] == 5
    plt.close("all")


def test_the_curves_are_those_of_the_runs(runs):
    losses, perplexities, apart = training.curves(runs).axes
    for line, run in zip(losses.lines, runs.values(), strict=True):
        assert line.get_xdata()[0] == 20 and line.get_xdata()[-1] == len(run["loss"])
        assert line.get_ydata()[0] == pytest.approx(np.mean(run["loss"][:20]))
    for line, run in zip(perplexities.lines, runs.values(), strict=True):
        assert list(zip(*line.get_data(), strict=True)) == [tuple(pair) for pair in run["perplexity"]]
    (line,) = apart.lines
    assert len(line.get_ydata()) == len(runs["torch"]["loss"]) and min(line.get_ydata()) == 1e-4
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["PyTorch", "TensorFlow"]
    plt.close("all")
