"""Sections 6.5 and 6.6: formats are those of the libraries, and figures and tables show the committed JSON."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("IPython")
pytest.importorskip("matplotlib")

from tfguide import ModelConfig, cost
from tfguide.figures import precision, quantised, style
from tfguide.figures.precision import FORMATS, Format

BENCHMARKS = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks"
LIBRARY = {
    "float32": "float32", "bfloat16": "bfloat16", "float16": "float16", "float8 e5m2": "float8_e5m2",
    "float8 e4m3": "float8_e4m3fn", "float4 e2m1": "float4_e2m1fn",
}  # fmt: skip


def read(name):
    return json.loads((BENCHMARKS / name).read_text())


@pytest.mark.parametrize("one", [one for one in FORMATS if one.name != "tf32"], ids=lambda one: one.name)
def test_a_format_is_that_of_the_libraries(one):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, LIBRARY[one.name]) and one.name != "float32" and one.name != "float16":
        pytest.skip("this version of ml_dtypes lacks the type")
    info = ml_dtypes.finfo(LIBRARY[one.name])
    assert one.largest == float(info.max)
    assert one.least_normal == float(info.smallest_normal) and one.least == float(info.smallest_subnormal)
    assert one.roundoff == float(info.eps) / 2 and 1 + one.exponent + one.fraction == info.bits


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_no_rounding_is_worse_than_the_line_and_some_come_near(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(name) if name == "float16" else np.dtype(ml_dtypes.bfloat16)
    [one] = [one for one in FORMATS if one.name == name]
    x = np.float32(2.0 ** np.random.default_rng(0).uniform(-26, 15.9, 20_000))
    error = np.abs(x.astype(kind).astype(np.float64) - x) / x
    bound = precision.rounding_error(one, x)
    assert (error <= bound * (1 + 1e-6)).all() and (error / bound).max() > 0.95
    assert precision.rounding_error(one, np.array([1.0]))[0] == one.roundoff
    assert np.isinf(precision.rounding_error(Format("float16", 5, 10), np.array([65536.0]))[0])


def test_a_running_sum_stands_still():
    assert precision.running_sum(np.ones(3000), np.float16)[-1] == 2048
    sums = precision.running_sum(np.arange(5), np.float32)
    assert sums.tolist() == [0, 1, 3, 6, 10]


def test_figures_of_formats_are_drawn():
    import matplotlib.pyplot as plt

    figures = [precision.bits(), precision.errors(), precision.sums(np.ones(9), {"float16": np.float16})]
    cells = [patch for patch in figures[0].axes[0].patches]
    assert len(cells) == sum(1 + one.exponent + one.fraction for one in FORMATS) + 3
    for fig in figures:
        assert "<svg" in style.to_svg(fig, alt="formats")
        plt.close(fig)
    shown = precision.formats_table().data
    assert "65,504" in shown and "448" in shown and "2^\u22128" in shown


@pytest.mark.parametrize("machine", ["zen5", "zen5_avx2", "xeon", "epyc"])
def test_steps_are_predicted_by_their_bytes(machine):
    found = read(f"{machine}/decode_S.json")
    dtypes = ("float32", "bfloat16", "float16", "int8", "int4")
    shown = re.findall(r"<td>([^<]+)</td><td>([\d.]+) ms</td><td>([\d.]+) ms</td><td>([\d.]+)\u00a0x</td>",
                       precision.speeds_table([found], dtypes).data)  # fmt: skip
    rows = {row["dtype"]: row for row in found["rows"] if row["name"] == "tfguide"}
    assert len(shown) == len(rows) == 5
    config = ModelConfig.from_dict(found["config"])
    for (_, measured, predicted, faster), (dtype, row) in zip(shown, rows.items(), strict=True):
        assert measured == f"{1e3 * row['seconds'] / 63:.1f}"
        assert faster == f"{rows['float32']['seconds'] / row['seconds']:.1f}"
        bandwidth = row.get("read_bytes_per_second", found["limits"]["read_bytes_per_second"])
        if dtype in ("bfloat16", "float16"):  # without scales the cost model says the same
            n_bytes = cost.step(config, "h100", 1, 1, 160, weights=dtype, kv=dtype).weights_s * 3.35e12
            n_bytes += cost.kv_bytes(config, 1, 160, dtype)
            assert float(predicted) == pytest.approx(1e3 * n_bytes / bandwidth, rel=0.01, abs=0.06)


@pytest.mark.parametrize("name", ["smollm2", "documentation"])
def test_weights_are_shown_with_their_quality(name):
    found = read(f"{name}/quantization.json")
    shown = quantised.weights_table(found).data
    own = [row for row in found["rows"] if row["name"] == "tfguide" and "as it is" not in row["weights"]]
    assert shown.count("<tr>") == 1 + len(own) == 9
    for row in own:
        assert f"<td>{row['weights']}</td><td>{row['perplexity']:.2f}</td>" in shown
        step = row["seconds"] / row["new_tokens"]
        times = f"<td>{1e3 * step:.2f} ms</td><td>{1e3 * step * row['share_of_bandwidth']:.2f} ms</td>"
        assert times in shown and times not in quantised.weights_table(found, times=False).data


def test_caches_are_shown_with_their_quality():
    found = read("smollm2/caches.json")
    shown = quantised.caches_table(found).data
    assert shown.count("<tr>") == 6
    for row in found["rows"]:
        assert f"<td>{row['cache_dtype']}</td><td>{row['perplexity']:.3f}</td>" in shown


def test_the_residual_stream_and_the_channels_are_drawn():
    import matplotlib.pyplot as plt

    found = read("smollm2/activations.json")
    fig = precision.residual(found)
    lines = {line.get_label(): line.get_ydata() for line in fig.axes[0].lines}
    assert list(lines["largest"]) == [row["largest"] for row in found["residual"]]
    assert fig.axes[0].get_yscale() == "log"
    plt.close(fig)
    layers = [found["inputs"][0]["layer"], found["inputs"][3]["layer"]]
    fig = quantised.channels(found, layers)
    for line, row in zip(fig.axes[0].lines, (found["inputs"][0], found["inputs"][3]), strict=True):
        assert line.get_ydata()[0] == pytest.approx(row["largest"] / row["median"])
    plt.close(fig)
