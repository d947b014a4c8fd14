"""The curves and the table of a mixture show what was measured, and what was measured is what the page says."""

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide import ModelConfig  # noqa: E402
from tfguide.bench import models, predict  # noqa: E402
from tfguide.figures import experts  # noqa: E402


@pytest.fixture(scope="module")
def results():
    return predict.read_results(APPENDICES / "benchmarks" / "zen5")


@pytest.fixture(scope="module")
def measured(results):
    [found] = [result for result in results if result["task"] == "experts"]
    return found


def test_the_measurement_is_of_the_mixture_and_counts_its_bytes(measured):
    assert ModelConfig.from_dict(measured["config"]) == models.MODELS["S-MoE"] and measured["size"] == "S-MoE"
    found = {(row["dtype"], row["experts_read"]): row for row in measured["rows"]}
    assert set(found) == {(kind, n) for kind in ("float32", "bfloat16", "int8", "int4") for n in range(1, 9)}
    for (dtype, n), row in found.items():
        context = row["prompt"] + row["new_tokens"] // 2
        assert row["bytes"] == models.bytes_read(models.SMALL_MIXTURE, dtype, context, experts_read=n)


def test_a_step_with_experts_takes_at_most_15_percent_longer_than_its_bytes_say(measured):
    over = {row["dtype"]: row["over_dense"] for row in measured["rows"] if "over_dense" in row}
    assert set(over) == {"float32", "bfloat16", "int8", "int4"} and max(over.values()) <= 1.15


def test_every_number_of_experts_is_a_point_with_the_time_of_its_bytes(results, measured):
    panels = experts.by_experts(results, "S-MoE")
    assert list(panels) == ["float32", "bfloat16", "8 bits", "4 bits"]
    rows = iter(measured["rows"])
    for lines in panels.values():
        for n, milliseconds, bound in lines["a step"]:
            row = next(rows)
            assert (n, milliseconds) == (row["experts_read"], 1e3 * row["seconds"])
            assert bound == pytest.approx(milliseconds / row["over_bytes"])
    fig = experts.steps_by_experts(results, "S-MoE")
    assert [ax.get_xscale() for ax in fig.axes] == ["linear"] * 4
    assert [text.get_text() for text in fig.axes[-1].get_xticklabels()] == [str(n) for n in range(1, 9)]
    plt.close(fig)
    with pytest.raises(ValueError, match="no results to draw"):
        experts.steps_by_experts(results, "M")


def test_the_table_has_a_line_for_each_number(results, measured):
    head, *lines = texts(experts.experts_table(results))
    shown = [line for line in lines if len(line) > 1]
    assert head[:3] == ["experts", "a step", "MB read"] and len(shown) == len(measured["rows"])
    for cells, row in zip(shown, measured["rows"], strict=True):
        over = f"{row['over_dense']:.2f}\u00a0x" if "over_dense" in row else ""
        assert cells == [
            f"{row['experts_read']:.4g}", f"{1e3 * row['seconds']:.2f} ms", f"{row['bytes'] / 1e6:.0f}",
            f"{row['over_bytes']:.2f}\u00a0x", over,
        ]  # fmt: skip
