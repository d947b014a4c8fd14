"""The table and the figure of section 7.2 show the scores of the answers."""

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")
pytest.importorskip("rouge_score", reason="the tasks extra is not installed")

from tests.test_figures_tables import texts  # noqa: E402
from tfguide.figures import summaries  # noqa: E402
from tfguide.tasks.docstrings import rouge  # noqa: E402

WANTED = ["Read a file.", "Close the socket.", "Return a list."]
ANSWERS = {
    "first sentence": {"none": ["Read it.", "Close it.", "Make it."]},
    "MiniLM": {"torch": ["Read a file.", "Open the socket.", "List."], "tensorflow": ["Read a file.", "No.", "List."]},
}


@pytest.fixture(scope="module")
def methods():
    return {
        name: {one: {"answers": own, "scores": rouge(own, WANTED)} for one, own in each.items()}
        for name, each in ANSWERS.items()
    }


def test_the_table_has_the_best_first(methods):
    head, *lines = texts(summaries.methods_table(methods))
    assert head[1:4] == ["ROUGE-1", "ROUGE-2", "ROUGE-L"]
    assert [line[0] for line in lines] == ["MiniLM", "first sentence"]
    assert lines[0][-1] == "2 of 3" and lines[1][-1] == "-"
    assert float(lines[0][1]) == pytest.approx(rouge(ANSWERS["MiniLM"]["torch"], WANTED)["rouge1"], abs=6e-4)


def test_the_figure_shows_the_differences(methods):
    scores = summaries.singles(methods, WANTED)
    assert scores["MiniLM"] == pytest.approx([1, 2 / 3, 0.5]) and scores["first sentence"][:2] == pytest.approx(
        [0.4, 0.4]
    )
    found = summaries.differences(scores)
    above = [0.6, 2 / 3 - 0.4, 0.5]
    assert list(found) == ["MiniLM"] and found["MiniLM"][0] == pytest.approx(sum(above) / 3)
    fig = summaries.differences_figure(methods, WANTED)
    (bar,) = fig.axes[0].patches
    assert bar.get_width() == pytest.approx(found["MiniLM"][0])
    plt.close(fig)
