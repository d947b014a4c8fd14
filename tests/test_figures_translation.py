"""What section 7.1 draws: weights between two languages, and the tables of its result."""

import json
from pathlib import Path

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import texts  # noqa: E402
from tfguide.figures import style, translation  # noqa: E402

RESULT = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "tasks" / "translation.json"


def test_a_map_has_the_target_in_rows_and_the_source_in_columns(recwarn):
    weights = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    fig = translation.cross_attention({"one": weights, "two": weights}, ["三", "百", "end"], ["three", "hundred"])
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "two"]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["三", "百", "end"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["three", "hundred"]
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), weights)
    assert ">三</text>" in style.to_svg(fig, alt="two maps")  # the reader's browser has the character
    assert not recwarn.list
    plt.close(fig)
    assert translation.strongest(weights, ["三", "百", "end"], ["three", "hundred"]) == [
        ("three", "三"),
        ("hundred", "end"),
    ]


def test_the_tables_say_where_the_frameworks_differ():
    def search(exact, wrong=()):
        return {"scores": {"exact match": exact, "BLEU": 99.0}, "seconds": 0.02, "wrong": list(wrong)}

    slip = {"source": "三", "translation": "two", "wanted": "three"}
    found = {
        "nearest": {"scores": {"exact match": 0.1, "BLEU": 40.0}},
        "searches": {"torch": {"greedy": search(0.99, [slip] * 3)}, "tensorflow": {"greedy": search(0.98)}},
    }
    assert texts(translation.scores_table(found)) == [
        ["", "exact match", "BLEU", "time of one text"],
        ["nearest known source", "0.100", "40.0", "-"],
        ["greedy", "0.990 / 0.980", "99.0", "20 ms / 20 ms"],
    ]
    assert texts(translation.wrong_table(found, most=2))[1:] == [["三", "two", "three"]] * 2
    assert texts(translation.wrong_table(found, "tensorflow"))[1:] == [["none", "", ""]]


def test_the_tables_show_the_result():
    found = json.loads(RESULT.read_text())
    head, *lines = texts(translation.scores_table(found))
    assert head[:2] == ["", "exact match"] and head[-2:] == ["BLEU", "time of one text"] and "unseen length" in head
    assert [line[0] for line in lines] == ["nearest known source", "greedy", "4 beams"]
    assert lines[0][-1] == "-" and lines[1][-1].endswith(" ms")
    assert min(float(part) for part in lines[1][1].split(" / ")) >= 0.98  # what the book promises of the model
    wrong = found["searches"]["torch"]["greedy"]["wrong"]
    assert len(texts(translation.wrong_table(found, most=3))) == 1 + max(1, min(3, len(wrong)))
