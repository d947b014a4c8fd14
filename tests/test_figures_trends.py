"""The pictures of chapter 9 show the numbers of the files that its pages name."""

import json
import re

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES  # noqa: E402  (after the checks for the packages)
from tfguide import ModelConfig, cost  # noqa: E402
from tfguide.figures import trends  # noqa: E402

BENCHMARKS = APPENDICES / "benchmarks"


def test_techniques_are_those_of_their_sections():
    found = trends.techniques(BENCHMARKS)
    by = {one.name: one for one in found}
    order = [tuple(map(int, one.section.split("."))) for one in found]
    assert order == sorted(order)
    rungs = {(row["name"], row["framework"]): row["seconds"] for row in
             json.loads((BENCHMARKS / "smollm2/waterfall.json").read_text())["rows"]}  # fmt: skip
    assert by["a cache"].faster == rungs["no cache", "torch"] / rungs["a cache", "torch"]
    assert by["kernels"].faster == rungs["compiled", "torch"] / rungs["all threads", "torch"]
    same = [one.faster for one in found if one.kind == trends.SAME]
    assert max(same) > max(one.faster for one in found if one.kind != trends.SAME)  # as the page says
    assert by["8-bit weights"].faster > 2 > 1.3 > by["27 of 30 layers"].faster
    assert float(by["8-bit weights"].quality.split()[1].rstrip("%")) < 2
    figure = trends.techniques_bars(found)
    bars = [patch.get_width() for patch in figure.axes[0].patches[: len(found)]]
    assert bars == pytest.approx([one.faster - 1 for one in found])
    shown = re.findall(r"<td>([\d.]+)\u00a0x</td>", trends.techniques_table(found).data)
    assert shown == [f"{one.faster:.2f}" for one in found]
    plt.close(figure)


def test_large_models_are_those_of_the_cost_model():
    names = "llama-3.1-405b", "deepseek-v3"
    shown = re.sub("<[^>]+>", "|", trends.large_models(names, "h100", "int8", context=8192, batch=16).data)
    large, mixture = (ModelConfig.from_preset(name) for name in names)
    assert "405b" in shown and f"{cost.weight_bytes(mixture) / 1e9:,.0f} GB" in shown
    best = cost.plan(large, "h100", 16, 8192, weights="int8")
    assert f"|{best.chips}|" in shown and f"|{best.decode.tokens_per_second:,.0f}|" in shown
    # what the page says of the two
    assert cost.parameters(mixture) / cost.parameters(large) == pytest.approx(1.65, abs=0.05)
    assert cost.kv_bytes(large, 1, 8192) / cost.kv_bytes(mixture, 1, 8192) == pytest.approx(7.2, abs=0.3)
    assert cost.parameters(mixture) / cost.active_parameters(mixture) == pytest.approx(18, abs=0.5)
    costs = [
        [cost.plan(config, "h100", batch, 8192, weights="int8").decode.chip_seconds_per_million_tokens
         for config in (large, mixture)]
        for batch in (1, 256)
    ]  # fmt: skip
    assert costs[0][0] / costs[0][1] == pytest.approx(9, abs=0.5) and costs[1][0] > costs[1][1]


def test_mixtures_are_drawn_as_they_were_measured():
    result = json.loads((BENCHMARKS / "documentation" / "mixtures.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    figure = trends.mixtures(result)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["learned with 2, read with n"] == list(rows["2 of 8 experts"]["read"].values())
    assert lines["learned and read with n"] == [rows[f"{n} of 8 experts"]["perplexity"] for n in (1, 2)]
    for name, row in rows.items():
        assert row["config"]["experts"] is not None or lines[name][0] == row["perplexity"]
    plt.close(figure)
