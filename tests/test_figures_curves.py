"""The curves and tables of many rows and long texts show what a result says."""

import json
from itertools import pairwise

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide.bench import predict  # noqa: E402
from tfguide.bench.models import SMALL  # noqa: E402
from tfguide.figures import benchmarks, curves  # noqa: E402

PHONE = 0.7 * 72 * 4 / 3  # pixels of an inch where a figure has shrunk as far as it does, see `style.to_svg`
MACHINE = {
    "processor": "P", "cores": 2, "level": "AVX-512 with VNNI",
    "llama.cpp": {"version": "0", "built_for": "AVX2", "level": "AVX2"},
}  # fmt: skip


def _rows():
    for dtype in ("int8", "float32"):
        for framework in ("torch", "tensorflow"):
            base = {"framework": framework, "dtype": dtype, "prompt": 16, "new_tokens": 4}
            faster = {"torch": 1.0, "tensorflow": 1.5}[framework]
            for batch, speed, share in ((1, 100.0, 1.0), (4, 300.0, 0.75), (16, 700.0, 0.5)):
                speed *= faster
                times = {"batch": batch, "seconds": 4 * batch / speed, "tokens_per_second": speed}
                yield {"name": "tfguide", **base, **times, "ratio": 1.0, "share": share}
                yield {"name": "llama.cpp", **base, **times, "tokens_per_second": speed / 2, "ratio": 2.0}


def _lengths():
    base = {"framework": "torch", "dtype": "int8", "new_tokens": 8}
    for name, cache, slower in (("tfguide", "float16", 1.0), ("tfguide", "int8", 0.5), ("llama.cpp", "float16", 3.0)):
        for length in (128, 8000):
            row = {
                "name": name, **base, "cache_dtype": cache, "prompt": length, "seconds": slower * length * 1e-6,
                "prompt_seconds": slower, "prompt_tokens_per_second": length / slower, "over_operations": 1.25,
                "ratio": slower, "prompt_ratio": slower,
            }  # fmt: skip
            yield row | ({"over_bytes": 1.6} if name == "tfguide" else {})
    yield {"name": "llama.cpp, flash", **base, "error": "it is wrong"}


@pytest.fixture
def results(tmp_path):
    about = {"machine": MACHINE, "config": SMALL.to_dict(), "limits": {}}
    for task, rows in (("rows", _rows()), ("lengths", _lengths())):
        content = {"task": task, **about, "rows": list(rows), "model": "S"}
        (tmp_path / f"{task}.json").write_text(json.dumps(content))
    yield predict.read_results(tmp_path)
    plt.close("all")


def test_the_speed_of_rows_and_its_bound(results):
    panels = curves.by_rows(results, "S")
    assert list(panels) == ["float32", "8 bits"]  # in the order of the page
    assert panels["8 bits"]["tfguide, PyTorch"] == [(1, 100.0, 100.0), (4, 300.0, 400.0), (16, 700.0, 1400.0)]
    # llama.cpp was measured beside each framework: the better of its runs counts.
    assert panels["8 bits"]["llama.cpp"] == [(1, 75.0, None), (4, 225.0, None), (16, 525.0, None)]
    assert curves.by_rows(results, "M") == {}


def test_the_times_of_long_texts_and_what_bounds_them(results):
    steps = curves.steps_by_length(results, "S")["8 bits"]
    assert [name.rpartition(", ")[2] for name in steps] == ["cache float16", "cache 8 bits", "cache float16"]
    assert steps["tfguide, PyTorch, cache 8 bits"][1] == (8000, pytest.approx(4.0), pytest.approx(2.5))
    assert steps["llama.cpp, cache float16"][1] == (8000, pytest.approx(24.0), None)
    prompts = curves.prompts_by_length(results, "S")["8 bits"]
    assert prompts["tfguide, PyTorch, cache float16"] == [(128, 128.0, 160.0), (8000, 8000.0, 10000.0)]


@pytest.mark.parametrize("which", ["by_rows", "steps_by_length", "prompts_by_length"])
def test_every_point_is_drawn_and_every_bound_is_dashed(results, which):
    panels = getattr(curves, which)(results, "S")
    fig = curves.curves(panels, "rows", "tokens a second")
    assert fig.get_figwidth() * PHONE <= 390 - 2 * 16
    assert [ax.get_title(loc="left") for ax in fig.axes] == list(panels)
    for ax, lines in zip(fig.axes, panels.values(), strict=True):
        drawn = [list(zip(*line.get_data(), strict=True)) for line in ax.lines if line.get_linestyle() == "-"]
        assert drawn == [[(at, value) for at, value, _ in points] for points in lines.values()]
        bounds = [list(zip(*line.get_data(), strict=True)) for line in ax.lines if line.get_linestyle() != "-"]
        assert bounds == [
            [(at, bound) for at, _, bound in points] for points in lines.values() if points[0][2] is not None
        ]
    [legend] = fig.legends
    assert {text.get_text() for text in legend.get_texts()} == {name for lines in panels.values() for name in lines}
    fig.canvas.draw()
    for ax in fig.axes:  # the numbers at the axis stand apart
        boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_visible()]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="there are no results to draw"):
        curves.curves({}, "rows", "tokens a second")


def test_the_tables_have_a_column_for_the_level(results):
    head, group, first, second, *_ = texts(curves.rows_table(results))
    assert head == ["rows", "tokens/s", "of the bound", "ours is", "level", ""]
    assert group == ["model S, 8 bits"]
    assert first == ["1", "100.0", "100%", "", "AVX-512 with VNNI", "tfguide, PyTorch"]
    assert second == ["1", "50.0", "", "2.00\u00a0x", "AVX2", "llama.cpp"]
    head, group, first, *_, last = texts(curves.lengths_table(results))
    assert first[:4] == ["128", "0.1 ms", "1.60\u00a0x", ""] and first[-2] == "AVX-512 with VNNI"
    assert first[-1] == "tfguide, PyTorch<br><small>cache float16</small>" and len(head) == len(first)
    assert last == ["it is wrong", "llama.cpp, flash"]


def test_decoding_has_a_column_for_the_level():
    row = {"name": "tfguide", "framework": "torch", "dtype": "int8", "prompt": 3, "tokens_per_second": 7.0}
    row |= {"share_of_bandwidth": 0.5, "ratio": 1.0}
    rows = [row, row | {"name": "llama.cpp"}, row | {"name": "Hugging Face"}]
    result = {"task": "decode", "size": "S", "machine": MACHINE, "rows": rows}
    head, _, *lines = texts(benchmarks.results_table([result], "decode"))
    assert head[3] == "level" and [line[3] for line in lines] == ["AVX-512 with VNNI", "AVX2", ""]
    older = result | {"machine": {"processor": "P", "cores": 2}}
    assert [line[3] for line in texts(benchmarks.results_table([older], "decode"))[2:]] == ["", "", ""]


def test_nothing_is_predicted_for_rows_and_lengths(results):
    machine = predict.read_calibration(APPENDICES / "benchmarks" / "epyc" / "machine.json")
    assert {one.dtype for one in machine} >= {"float32"}
    assert [predict.predictions(result, machine) for result in results] == [[], []]
