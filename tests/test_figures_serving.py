"""What the figures of section 6.11 draw of a result are its numbers."""

import re

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tfguide.bench.clients import Outcome  # noqa: E402
from tfguide.bench.serve import knee, measure  # noqa: E402
from tfguide.figures import serving  # noqa: E402


def made(name, rate, first, each, n=10, fails=0):
    """A row of requests that are all alike, some of which failed."""
    outcomes = [Outcome(i / rate, i / rate, i / rate + first, i / rate + first + 4 * each, 5) for i in range(n)]
    outcomes += [Outcome(0.0, 0.0, error="status 503")] * fails
    return {"name": name, "rate": rate, **measure(outcomes, n / rate)}


@pytest.fixture
def result():
    rows = [
        made("ours", 2, 0.2, 0.05), made("other", 2, 0.9, 0.08, fails=10), made("ours", 1, 0.1, 0.04),
        made("other", 1, 0.5, 0.07), made("ours", 4, 1.2, 0.2), {"name": "other", "rate": 4, "error": "it ended"},
        {"name": "other", "rate": 8, **measure([Outcome(0.0, 0.0, error="x")], 1.0)},
    ]  # fmt: skip
    prefix = [{"name": "ours", "cold": 0.5, "warm": 0.04, "times": 12.5}, {"name": "other", "error": "x"}]
    return {"rows": rows, "settings": {"ttft": 1.0, "tpot": 0.1}, "prefix": prefix}


def test_times_stand_over_the_throughput_in_the_order_of_the_rates(result):
    figure = serving.latency_by_throughput(result)
    for ax, key in zip(figure.axes, ("ttft", "tpot"), strict=True):
        *lines, limit = ax.lines
        assert list(limit.get_ydata()) == [result["settings"][key]] * 2
        for i, (name, n) in enumerate((("ours", 3), ("other", 2))):
            rows = [row for row in serving.rows_of(result, name) if row[key]["p50"] is not None]
            assert [row["rate"] for row in rows] == [1, 2, 4][:n]
            for line, p in zip(lines[2 * i : 2 * i + 2], (50, 99), strict=True):
                assert list(line.get_xdata()) == [row["tokens_per_second"] for row in rows]
                assert list(line.get_ydata()) == [row[key][f"p{p}"] for row in rows]
    plt.close(figure)


def test_the_share_in_time_stands_over_the_rate_and_the_knee_is_marked(result):
    figure = serving.goodput_by_rate(result)
    ours, mark, other, _, limit = figure.axes[0].lines
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([knee(result["rows"], "ours")], [90])
    assert (list(ours.get_xdata()), list(ours.get_ydata())) == ([1, 2, 4], [100, 100, 0])
    assert (list(other.get_xdata()), list(other.get_ydata())) == ([1, 2, 8], [100, 50, 0])
    assert list(limit.get_ydata()) == [90, 90]
    marks = [text.get_text() for text in figure.axes[0].texts]
    assert marks == [f"{knee(result['rows'], name):.2g}" for name in ("ours", "other")] == ["2.2", "1.2"]
    plt.close(figure)


def test_the_tables_are_the_rows(result):
    shown = serving.serving_table(result).data
    lines = re.findall(r"<tr>(.*?)</tr>", shown)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]
    assert cells[0] == ["ours", "2", "100%", "10", "0.20", "0.20", "50.0", "50.0"]
    assert cells[1][2] == "50%" and cells[5] == ["other", "4", "it ended"] and cells[6][4:] == [""] * 4
    assert re.findall(r">([\d.]+)(?:\u00a0x)?<", serving.prefix_table(result).data) == ["12.5", "0.500", "0.040"]
