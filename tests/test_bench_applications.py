"""The rows that every task of chapter 7 writes, and the table and the figure that show them."""

import time

import pytest

from tests.support import refuses
from tfguide.bench.applications import VARIANTS, Variant, measure_variants


def exact(answers):
    return {"exact match": sum(answer % 2 == 0 for answer in answers) / len(answers), "mean": 12.0}


def answering(wrong, seconds):
    def answer(inputs):
        time.sleep(seconds * len(inputs))
        return [2 * one + (one < wrong) for one in inputs]

    return answer


@pytest.fixture(scope="module")
def rows():
    variants = [Variant("float32", answering(0, 0.004), 4_000_000), Variant("int4", answering(3, 0.001), 600_000, "4")]
    found = [measure_variants("counting", name, variants, range(12), exact, 5, 3) for name in ("torch", "tensorflow")]
    return found[0] + found[1]


def test_a_row_has_the_scores_of_all_inputs_and_the_time_of_one(rows):
    whole, less = rows[:2]
    assert (whole["scores"]["exact match"], less["scores"]["exact match"]) == (1.0, 0.75)
    assert whole["examples"] == 12 and whole["ratio"] == 1 and less["about"] == "4"
    assert 0.004 <= whole["seconds"] < 0.04 and 0.001 <= less["seconds"] < whole["seconds"] and less["ratio"] > 1


def test_a_variant_has_a_name_that_the_tables_know():
    with refuses(ValueError, "variant must be one of 'float32'"):
        measure_variants("counting", "torch", [Variant("int3", answering(0, 0), 1)], [1], exact)


def test_the_table_has_a_line_for_each_variant(rows):
    pytest.importorskip("matplotlib")
    pytest.importorskip("IPython")
    from tests.test_figures_tables import texts
    from tfguide.figures.applications import variants_table

    rows = [row | {"ratio": round(row["ratio"])} for row in rows]
    other = [*rows[:3], rows[3] | {"scores": {"exact match": 0.7512, "mean": 12.0}}]
    head, *lines = texts(variants_table(other))
    assert head == ["", "exact match", "mean", "speed, PyTorch", "speed, TensorFlow", "weights"]
    assert [line[0].split("4")[0] for line in lines] == ["float32", ""] and lines[0][1:3] == ["1.000", "12"]
    assert lines[1][1] == "0.750 / 0.751" and lines[1][-1] == "0.6 MB"
    assert lines[0][3:5] == ["1.00", "1.00"]


def test_one_table_has_the_first_score_of_every_task(rows):
    pytest.importorskip("matplotlib")
    pytest.importorskip("IPython")
    from tests.test_figures_tables import texts
    from tfguide.figures.applications import scores_table

    other = {"task": "b", "framework": "torch", "variant": "pruned", "scores": {"F1": 0.25}}
    head, *lines = texts(scores_table([*rows[:3], rows[3] | {"scores": {"exact match": 0.5}}, other]))
    assert head == ["", "float32", "4 bits", "pruned"]
    assert [line[1:] for line in lines] == [["1.000", "0.750 / 0.500", "-"], ["-", "-", "0.250"]]
    assert "counting" in lines[0][0] and "exact match" in lines[0][0]


def test_the_figure_has_a_panel_for_each_task(rows):
    plt = pytest.importorskip("matplotlib.pyplot")
    from tfguide.figures.applications import MARKERS, NAMES, over_all, points

    assert list(MARKERS) == list(NAMES) == list(VARIANTS)
    assert points(rows[:2])["int4"] == (rows[1]["ratio"], 0.75)
    fig = over_all([*rows, *(row | {"task": task} for task in ("b", "c") for row in rows)], "torch")
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == ["counting: exact match", "b: exact match", "c: exact match", ""]
    plt.close(fig)
