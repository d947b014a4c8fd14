"""Section 7.5 shows what was measured: the ways to find, the errors of the threshold, the keys and values kept."""

import json

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide.figures import answering  # noqa: E402


@pytest.fixture(scope="module")
def measured():
    return json.loads((APPENDICES / "benchmarks" / "tasks" / "answering.json").read_text())


def test_the_ways_to_find_and_the_goal(measured):
    rows = measured["finding"]["rows"]
    shown = texts(answering.finding_table(rows))[1:]
    assert [line[1] for line in shown] == [f"{row['source']} of {row['questions']}" for row in rows]
    assert [line[-1] for line in shown] == [f"{row['mrr']:.2f}" for row in rows]
    assert rows[-1]["source"] >= 45 and rows[-1]["questions"] >= 60
    assert rows[-1]["source"] > max(row["source"] for row in rows if row["pages"] == 1)


def test_the_errors_of_the_threshold(measured):
    finding = measured["finding"]
    figure = answering.refusals(finding["thresholds"], finding["least"])
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(lines["refused, though answered"]) == [row["refused"] for row in finding["thresholds"]]
    assert list(lines["answered: other tools"]) == [row["near"] for row in finding["thresholds"]]
    plt.close(figure)


def test_what_is_kept(measured):
    shown = texts(answering.kept_table(measured["kept"]))[1:]
    assert [line[4] for line in shown] == [f"{row['ratio']:.1f}" for row in measured["kept"]]
    assert all(row["ratio"] > 1 for row in measured["kept"])
    assert {row["framework"] for row in measured["kept"]} == {"none", "torch", "tensorflow"}


def test_the_way_has_its_steps():
    figure = answering.way()
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"passages", "vectors and words", "reading", "answer", "question"} <= set(words)
    plt.close(figure)
