"""The figures and tables of pruning show what was measured, and what was measured is what the page says."""

import json

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide.bench.variants import VARIANTS  # noqa: E402
from tfguide.figures import pruning  # noqa: E402

BENCHMARKS = APPENDICES / "benchmarks"


def read(name):
    return json.loads((BENCHMARKS / name).read_text())


@pytest.fixture(scope="module")
def results():
    return {key: read(f"{key}/trade.json") for key in pruning.MODELS}


def by_name(result):
    return {row["name"]: row for row in result["rows"]}


def test_every_variant_was_measured_in_full(results):
    for result in results.values():
        rows = by_name(result)
        assert [name for name in rows if not name.endswith("trained further")] == [variant.name for variant in VARIANTS]
        assert result["questions"] >= 100 and result["machine"]["processor"]
        for row in rows.values():
            assert {"perplexity", "accuracy", "weights_bytes", "seconds", "predicted_seconds", "speed"} <= row.keys()


def test_the_page_says_what_was_measured(results):
    for result in results.values():
        rows = by_name(result)
        quality = {name: row["perplexity"] for name, row in rows.items()}
        for name in ("bfloat16", "8 bits", "8 bits, 8-bit activations", "4 bits, calibrated"):
            assert quality[name] < 1.02 * quality["float32"]
        assert quality["any half"] < quality["2 of 4"]  # the freer choice is the better one
        assert quality["any half, calibrated"] < quality["2 of 4, calibrated"]
        assert rows["8 bits, 8-bit activations"]["speed"] > 1.5
        assert 0.85 < rows["2 of 4"]["speed"] < 1.2  # zeros save nothing
    large, small = ({name: row["perplexity"] for name, row in by_name(result).items()} for result in results.values())
    assert large["2 of 4"] > 50 * large["float32"] and large["any half"] > 10 * large["float32"]
    assert large["any half, calibrated"] < 2 * large["float32"] < large["2 of 4, calibrated"] < large["2 of 4"] / 10
    assert min(large["fewer neurons"], large["pooled heads"]) > 500 * large["float32"]
    assert 1.2 < large["fewer layers"] / large["float32"] < 1.6
    assert small["fewer neurons"] < 1.02 * small["float32"]
    assert small["pooled heads, trained further"] < 1.02 * small["float32"] < small["pooled heads"] / 1.5
    for row in by_name(results["documentation"]).values():
        assert abs(row["accuracy"] - 0.25) < 2 * row["accuracy_error"]
    rows = by_name(results["smollm2"])
    assert rows["fewer neurons"]["speed"] > 1.05 and rows["fewer layers"]["speed"] > 1.03


def test_the_figure_has_a_mark_for_each_row_and_the_table_its_number(results):
    numbers = pruning.numbered(results)
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    figure = pruning.trade(results)
    for ax, result in zip(figure.axes, results.values(), strict=True):
        marks = [tuple(drawn.get_offsets()[0]) for drawn in ax.collections if len(drawn.get_offsets())]
        assert marks == [(1e3 * row["seconds"], row["perplexity"]) for row in result["rows"]]
        named = [int(number) for text in ax.texts for number in text.get_text().split(", ")]
        assert sorted(named) == sorted(numbers[row["name"]] for row in result["rows"])
    plt.close(figure)
    lines = [line for line in texts(pruning.trade_table(results)) if len(line) > 1]
    rows = [row for result in results.values() for row in result["rows"]]
    for line, row in zip(lines[1:], rows, strict=True):
        assert line[0] == f"{numbers[row['name']]}. {row['name']}"
        assert float(line[1].replace(",", "")) == pytest.approx(row["perplexity"], rel=0.005)
        assert line[2].startswith(f"{row['accuracy']:.0%}") and line[4] == f"{1e3 * row['seconds']:.2f}"


def test_names_that_would_overlap_stand_together():
    assert pruning.near({1: (10.0, 20.0), 2: (5.0, 20.0), 3: (10.1, 20.5), 4: (10.0, 2000.0)}) == [[2], [1, 3], [4]]


def test_the_zeros_of_a_pattern_are_empty_cells():
    weight = np.array([[1.0, 0, -2], [0, 0, 4]])
    figure = pruning.patterns({"one": weight, "other": weight.T})
    for ax, shown in zip(figure.axes, (weight, weight.T), strict=True):
        shades = np.array([patch.get_facecolor()[3] for patch in ax.patches]).reshape(shown.shape)
        np.testing.assert_array_equal(shades == 0, shown == 0)
        assert shades.max() == 1 and shades[np.abs(shown).argmax() // shown.shape[1]].max() == 1
    plt.close(figure)


def test_sparse_products_are_drawn_and_listed():
    result = read("sparsity.json")
    figure = pruning.zeros(result)
    assert [ax.get_title("left") for ax in figure.axes] == ["1 row", "128 rows"]
    widths = [patch.get_width() for ax in figure.axes for patch in ax.patches]
    assert widths == [row["speed"] for row in result["sparsity"]]
    plt.close(figure)
    one = {row["kind"]: row["speed"] for row in result["sparsity"] if row["rows"] == 1}
    many = {row["kind"]: row["speed"] for row in result["sparsity"] if row["rows"] == 128}
    for speeds in (one, many):  # what the page says
        assert 0.85 < speeds["dense, 50% zeros"] < 1.15 and speeds["half of the outputs"] > 1.5
        assert speeds["sparse, 50% zeros"] < 0.8 and speeds["sparse, 95% zeros"] > 1.5


def test_the_layers_that_change_least_stand_out():
    values = [0.5, 0.1, 0.2, 0.01, *[0.3] * 16]
    figure = pruning.changes(values)
    bars = figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == values
    assert [i for i, bar in enumerate(bars) if bar.get_facecolor() != bars[0].get_facecolor()] == [1, 3]
    plt.close(figure)


def test_a_repair_is_drawn_by_its_steps():
    result = read("documentation/repair.json")
    figure = pruning.repairs(result)
    for line, row in zip(figure.axes[0].lines, result["rows"], strict=True):
        assert list(zip(*line.get_data(), strict=True)) == [(one["steps"], one["perplexity"]) for one in row["curve"]]
        if row["name"] != "float32":
            assert row["curve"][-1]["perplexity"] < row["curve"][0]["perplexity"]
    plt.close(figure)
    lines = texts(pruning.repairs_table(result))
    assert lines[0] == ["removed", "after 0 steps", "after 25 steps", "after 200 steps"]
    for line, row in zip(lines[1:], result["rows"], strict=True):
        assert line[1:] == [f"{row['curve'][i]['perplexity']:.1f}" for i in (0, 1, -1)]
