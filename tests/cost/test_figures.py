"""The figures of the pages of costs show the numbers that they stand for, and nothing lies on something else."""

from pathlib import Path

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from tfguide import ModelConfig, cost  # noqa: E402  (after the check for matplotlib)
from tfguide.bench import predict  # noqa: E402
from tfguide.cost.caches import CONTEXTS, CURVE, MODELS, cache_row, cache_rows  # noqa: E402
from tfguide.figures import benchmarks  # noqa: E402
from tfguide.figures import cost as figures  # noqa: E402

BENCHMARKS = Path(__file__).parents[2] / "book" / "appendices" / "benchmarks"
PHONE = 0.7 * 72 * 4 / 3  # pixels of an inch where a figure has shrunk as far as it does, see `style.to_svg`


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def decoding():
    """The rows of the benchmark that were measured, by machine and model."""
    found = {}
    for machine in ("epyc", "xeon"):
        for result in predict.read_results(BENCHMARKS / machine):
            if result["task"] == "decode":
                rows = [row for row in result["rows"] if "error" not in row]
                found.setdefault((machine, result["size"]), []).extend(rows)
    return found


def groups(rows):
    every = {}
    for row in rows:
        limit = row["tokens_per_second"] / row["share_of_bandwidth"]
        name = f"{row['name']} {row.get('framework', '')}"
        every.setdefault(row["dtype"], []).append((name, row["tokens_per_second"], limit))
    return every


@pytest.mark.parametrize("which", decoding(), ids=" ".join)
def test_each_bar_has_its_own_limit(which):
    """A bar passes its dashed line exactly where the table's share is above 100%."""
    rows = decoding()[which]
    fig = benchmarks.speeds(groups(rows))
    [ax] = fig.axes
    bars = sorted((bar for bars in ax.containers for bar in bars), key=lambda bar: bar.get_y())
    lines = sorted(ax.lines, key=lambda line: line.get_ydata()[0])
    ordered = [(value, limit) for group in groups(rows).values() for _, value, limit in group]
    assert len(bars) == len(lines) == len(rows)
    shares = {row["tokens_per_second"]: row["share_of_bandwidth"] for row in rows}
    for bar, line, (value, limit) in zip(bars, lines, ordered, strict=True):
        assert bar.get_width() == value and list(line.get_xdata()) == [limit, limit]
        low, high = line.get_ydata()
        assert low < bar.get_y() and bar.get_y() + bar.get_height() < high  # across this bar
        assert (bar.get_width() > line.get_xdata()[0]) == (shares[value] > 1)


@pytest.mark.parametrize("which", decoding(), ids=" ".join)
def test_no_number_lies_on_a_line_or_a_bar(which):
    fig = benchmarks.speeds(groups(decoding()[which]))
    [ax] = fig.axes
    fig.canvas.draw()
    texts = [text.get_window_extent() for text in ax.texts]
    lines = [line.get_window_extent() for line in ax.lines]
    bars = [bar.get_window_extent() for bars in ax.containers for bar in bars]
    for index, text in enumerate(texts):
        assert text.x1 < fig.bbox.x1
        middle = (text.y0 + text.y1) / 2
        for other in (*lines, *bars):
            if other.y0 < middle < other.y1:  # in the same row
                assert not text.x0 < other.x1 or not other.x0 < text.x1, ax.texts[index].get_text()
        assert not any(text.overlaps(other) for k, other in enumerate(texts) if k != index)


def epyc():
    limits = {"float32": 2e11, "bfloat16": 4e11}
    points = [("a token", 0.5, 0.5 * 44e9), ("a prompt", 400.0, 1.8e11), ("a long prompt", 820.0, 2.9e11)]
    return limits, (31e9, 48e9), points


def test_the_roofs_reach_beyond_every_point():
    peaks, bandwidths, points = epyc()
    [ax] = figures.roofline(peaks, bandwidths, points).axes
    left, right = ax.get_xlim()
    roofs = [line for line in ax.lines if len(line.get_xdata()) > 1]
    assert len(roofs) == 4
    for _, x, _ in points:
        assert left < x < right
        assert all(min(roof.get_xdata()) <= x <= max(roof.get_xdata()) for roof in roofs)
    for roof, (peak, bandwidth) in zip(roofs, [(p, b) for p in peaks.values() for b in bandwidths], strict=True):
        x, y = (np.asarray(data) for data in roof.get_data())
        assert np.allclose(1e9 * y, np.minimum(peak, bandwidth * x))
        assert 1e9 * y[-1] == pytest.approx(peak)


def test_the_committed_runs_lie_in_the_band():
    """Decoding in float32 and bfloat16 on the EPYC: none above the fastest memory, none a tenth below the slowest."""
    rows = [row for (machine, _), every in decoding().items() if machine == "epyc" for row in every]
    mine = [r for r in rows if r["name"] == "tfguide" and r["framework"] == "torch"]
    mine = [r for r in mine if r["dtype"] in ("float32", "bfloat16")]
    speeds = [r["read_bytes_per_second"] for r in mine]
    reached = [r["share_of_bandwidth"] * r["read_bytes_per_second"] for r in mine]
    assert len(mine) == 4
    assert 0.9 * min(speeds) < min(reached) and max(reached) < max(speeds)


def test_intensity_is_drawn_as_it_is_counted():
    config, chip = ModelConfig.from_preset("llama-3-8b"), cost.CHIPS["h100"]
    assert figures.rows_that_fit(config, chip, 512) == 952  # chapter 1 says so
    assert cost.decode_intensity(config, 512, 952) < chip.critical_intensity
    [ax] = figures.intensity(config, chip, (128, 512, 8192)).axes
    for line in ax.lines:
        if line.get_linestyle() == "-":
            context = int(line.get_label().split()[0].replace(",", ""))
            for batch, value in zip(*line.get_data(), strict=True):
                assert value == cost.decode_intensity(config, context, int(batch))
            assert max(line.get_xdata()) == min(4096, figures.rows_that_fit(config, chip, context)) or context == 128
    levels = [line.get_ydata()[0] for line in ax.lines if set(line.get_xdata()) == {0, 1}]
    assert levels == [chip.critical_intensity]


def test_caches_are_drawn_as_they_are_counted():
    rows = cache_rows(contexts=CURVE)
    [ax] = figures.caches(rows).axes
    assert len(ax.lines) == len(rows) == len(MODELS)
    for line, name in zip(ax.lines, MODELS, strict=True):
        config = ModelConfig.from_preset(name)
        for context, shown in zip(*line.get_data(), strict=True):
            assert shown * 1024 * context == pytest.approx(cost.kv_bytes(config, 1, int(context)))
    low, high = ax.get_ylim()
    assert low < min(min(line.get_ydata()) for line in ax.lines) and high > max(max(l.get_ydata()) for l in ax.lines)
    shown = figures.caches_table(cache_rows()).data
    for cell in ("512.0", "68.72", "68.6", "9.21", "latent, 512 + 64 numbers"):
        assert f"<td>{cell}</td>" in shown
    assert "GB, 131,072 tokens" in shown and "window of 128 in 12 of 24 layers" in shown


def test_caches_by_kind_of_attention():
    """By hand, in bytes: two numbers of 2 bytes for each key/value head and feature, or the latent ones alone."""
    rows = {row.name: row for row in cache_rows((*MODELS, "mistral-7b"))}
    tokens = {
        "llama-2-7b": 32 * 2 * 32 * 128 * 2, "llama-3-8b": 32 * 2 * 8 * 128 * 2, "palm-8b": 32 * 2 * 256 * 2,
        "mistral-7b": 32 * 2 * 8 * 128 * 2, "gemma-3-12b": 48 * 2 * 8 * 256 * 2, "gpt-oss-20b": 24 * 2 * 8 * 64 * 2,
        "deepseek-v3": 61 * 576 * 2,
    }  # fmt: skip
    assert {name: row.token_bytes for name, row in rows.items()} == tokens
    for context in CONTEXTS:
        for name in ("llama-2-7b", "llama-3-8b", "palm-8b", "deepseek-v3"):
            assert rows[name].by_context[context] == tokens[name]
        window = min(1024, context)
        assert rows["gemma-3-12b"].gigabytes(context) == pytest.approx(8192 * (8 * context + 40 * window) / 1e9)
        window = min(128, context)
        assert rows["gpt-oss-20b"].gigabytes(context) == pytest.approx(2048 * (12 * context + 12 * window) / 1e9)
        assert rows["mistral-7b"].gigabytes(context) == pytest.approx(131_072 * min(4096, context) / 1e9)
    half = cache_row("half", ModelConfig.from_preset("llama-2-7b"), [5], "int8")
    assert (half.token_bytes, half.by_context) == (tokens["llama-2-7b"] / 2, {5: tokens["llama-2-7b"] / 2})
    assert rows["llama-2-7b"].kind == "multi-head, 32" and rows["palm-8b"].kind == "multi-query, 1 of 16"


def test_experts_are_drawn_as_they_are_counted():
    names = ("mixtral-8x7b", "gpt-oss-120b", "deepseek-v3")
    [ax] = figures.experts_read(names).axes
    for line, name in zip(ax.lines, names, strict=True):
        config = ModelConfig.from_preset(name)
        k, n = config.experts.per_token, config.experts.n_experts
        assert line.get_ydata()[0] == pytest.approx(100 * k / n) and line.get_label() == f"{name}: {k} of {n}"
        for tokens, shown in zip(*line.get_data(), strict=True):
            assert shown * n / 100 == pytest.approx(cost.experts_read(config, int(tokens)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: benchmarks.speeds(groups(decoding()["epyc", "S"])),
        lambda: figures.roofline(*epyc()),
        lambda: figures.predictions([("a", 1.0, 1.1), ("b", 2.0, 1.9)]),
        lambda: figures.intensity(ModelConfig.from_preset("llama-3-8b"), cost.CHIPS["h100"], (128, 512)),
        lambda: figures.caches(cache_rows(contexts=CURVE)),
        lambda: figures.experts_read(("mixtral-8x7b", "deepseek-v3")),
    ],
    ids=[
        "speeds",
        "roofline",
        "predictions",
        "intensity",
        "caches",
        "experts",
    ],
)
def test_a_telephone_shows_the_whole_figure(draw):
    assert draw().get_figwidth() * PHONE <= 390 - 2 * 16
