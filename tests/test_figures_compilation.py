"""The figures and tables of section 6.10 show what was measured, and the measurement is what the page says of it."""

import json

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide import cost  # noqa: E402
from tfguide.bench import compilation as bench  # noqa: E402
from tfguide.bench.operations import PRODUCTS  # noqa: E402
from tfguide.figures import compilation  # noqa: E402

FRAMEWORKS = ("torch", "tensorflow")


@pytest.fixture(scope="module")
def result():
    return json.loads((APPENDICES / "benchmarks" / "smollm2" / "compilation.json").read_text())


def test_every_way_of_every_model_was_measured_and_compiled_once(result):
    kinds = {"torch": ["eager", "compiled", "kernels"], "tensorflow": ["eager", "graph", "compiled", "kernels"]}
    assert result["steps"] == bench.STEPS and set(result["frameworks"]) == set(FRAMEWORKS)
    for framework in FRAMEWORKS:
        models = compilation.models_of(result, framework)
        assert models == [*bench.MODELS, bench.SMOLLM]
        for model in models:
            rows = compilation.rows_of(result, framework, model)
            assert list(rows) == kinds[framework]
            for kind, row in rows.items():
                assert row["programs"] == ([1, 1] if kind in ("graph", "compiled") else [0, 0])
                worth = cost.steps_to_pay(row["first_seconds"], rows["eager"]["seconds"], row["seconds"])
                assert row["worth"] == worth
    with pytest.raises(ValueError, match="no rows of 'M' in torch"):
        compilation.rows_of(result, "torch", "M")


def test_what_the_page_says_of_it(result):
    """Compiled steps are faster, the narrower the model the more, and the kernels are faster still."""
    for framework in FRAMEWORKS:
        few, many, wide = (
            compilation.rows_of(result, framework, model) for model in ("narrow, 2 layers", "narrow, 12 layers", "S")
        )
        gains = [rows["eager"]["seconds"] / rows["compiled"]["seconds"] for rows in (many, wide)]
        assert gains[0] > gains[1] > 1.1 and gains[0] > 1.5
        assert many["compiled"]["first_seconds"] > few["compiled"]["first_seconds"]
        for rows in (few, many, wide):
            assert rows["kernels"]["seconds"] < rows["compiled"]["seconds"]
        assert sum(one in PRODUCTS for one in result["frameworks"][framework]["layer"]) == 7
        saved = compilation.saved_seconds(many)
        measured = {row["model"] for row in result["rows"] if row["framework"] == framework}
        assert measured == {*bench.MODELS, bench.SMOLLM}
        for model in ("S", bench.SMOLLM):
            assert compilation.saved_seconds(compilation.rows_of(result, framework, model)) == pytest.approx(
                saved, rel=0.4
            )


def test_the_timeline_is_as_long_as_the_step(result):
    for framework in FRAMEWORKS:
        products = [one in PRODUCTS for one in result["frameworks"][framework]["layer"]]
        rows = compilation.rows_of(result, framework, "S")
        lanes = compilation.layer_times(rows, products)
        for kind, spans in zip(("eager", "compiled"), lanes.values(), strict=True):
            end = 0.0
            for begin, seconds, _ in spans:
                assert begin == pytest.approx(end)
                end = begin + seconds
            least = rows[kind]["bytes_seconds"]
            assert end * 12 == pytest.approx(max(rows[kind]["seconds"], least))
            assert sum(what == "read" for _, _, what in spans) == 7
        assert len(lanes[compilation.way(rows["eager"])]) == len(products) + 7
        figure = compilation.layer_timeline(rows, products)
        [ax] = figure.axes
        assert [label.get_text() for label in ax.get_yticklabels()] == list(lanes)
        assert len(ax.patches) == sum(map(len, lanes.values()))
        plt.close(figure)


def test_curves_and_tables_hold_the_rows(result):
    figure = compilation.by_operations(result, "narrow")
    torch, tensorflow = ({line.get_label(): line for line in ax.lines} for ax in figure.axes)
    assert list(torch) == ["as it is", "torch.compile", "C++ kernels"]
    assert list(tensorflow) == ["as it is", "tf.function", "XLA", "C++ kernels"]
    rows = [compilation.rows_of(result, "tensorflow", f"narrow, {n} layers")["compiled"] for n in (2, 6, 12)]
    assert list(tensorflow["XLA"].get_xdata()) == [row["operations"] for row in rows]
    assert list(tensorflow["XLA"].get_ydata()) == [1e3 * row["seconds"] for row in rows]
    plt.close(figure)
    steps = [line for line in texts(compilation.steps_table(result))[1:] if len(line) > 1]
    assert [line[0] for line in steps] == [f"{1e3 * row['seconds']:.2f} ms" for row in result["rows"]]
    assert {line[3] for line in steps} == {"as it is", "tf.function", "torch.compile", "XLA", "C++ kernels"}
    worth = [line for line in texts(compilation.worth_table(result))[1:] if len(line) > 1]
    compiled = [row for row in result["rows"] if row["kind"] in ("graph", "compiled")]
    for line, row in zip(worth, compiled, strict=True):
        assert line[0] == ("never" if row["worth"] is None else f"{row['worth']:,} steps")
        assert line[1] == f"{row['first_seconds']:.1f} s" and line[3] == "1"
