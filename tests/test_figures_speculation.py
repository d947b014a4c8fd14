"""What section 6.9 draws: rounds decided again, what rows cost, and speed-ups beside the formula."""

import json
import re
from pathlib import Path

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from tfguide import cost  # noqa: E402
from tfguide.figures import speculation  # noqa: E402

BENCHMARKS = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks"
RECORDED = json.loads((BENCHMARKS / "smollm2" / "speculation_rounds.json").read_text())
MEASURED = json.loads((BENCHMARKS / "smollm2" / "speculative.json").read_text())


def test_the_frames_are_the_verdicts_of_the_package():
    frames = speculation.rounds_frames(RECORDED)
    assert len(frames) == 2 * len(RECORDED["rounds"])
    pieces, written = RECORDED["pieces"], 0
    for k, one in enumerate(RECORDED["rounds"]):
        proposed, verdict = frames[2 * k], frames[2 * k + 1]
        n, names = one["accepted"], [pieces[str(token)] for token in one["drafted"]]
        new = [cell.text for cell in proposed.rows[1].cells if cell.state == "new"]
        assert new == [name.strip(" ").replace("\n", "\u21b5") for name in names]
        states = [cell.state for cell in verdict.rows[1].cells if cell.state]
        assert states.count("accepted") == n and states.count("rejected") == (n < len(names))
        rows = {row.name: [cell.text for cell in row.cells] for row in verdict.rows}
        assert rows["and then"] == [pieces[str(one["next"])].strip(" ").replace("\n", "\u21b5")]
        written += n + 1
        counted = [f"{written} token{'s' * (written > 1)}", f"{k + 1} call{'s' * (k > 0)} of the target"]
        assert rows["so far"] == counted
        for i in range(min(n + 1, len(names))):  # the numbers that are shown decide as the frame says
            at = one["support"][i].index(one["drafted"][i])
            ratio = min(1.0, one["target"][i][at] / one["draft"][i][at])
            assert rows["p / q, at most 1"][i] == f"{ratio:.2f}"
            assert (one["uniforms"][i] < ratio) == (i < n)
    counts = [one["accepted"] for one in RECORDED["rounds"]]
    assert len(set(counts)) > 1 and max(counts) == len(RECORDED["rounds"][0]["drafted"])  # rejected, and all accepted


def test_a_record_that_was_changed_is_not_what_it_says():
    [one] = (json.loads(json.dumps(one)) for one in RECORDED["rounds"] if one["accepted"] == 2)  # then p is not 0
    assert speculation.decide(one) == (one["accepted"], one["next"])
    one["uniforms"][one["accepted"]] = 0.0
    assert speculation.decide(one)[0] > one["accepted"]


def test_rows_beside_their_bound():
    result = json.loads((BENCHMARKS / "zen5" / "rows_SmolLM2.json").read_text())
    chip = cost.Chip(name="x", peak_flops=9e11, float32_flops=4e11, hbm_bytes=1e9, hbm_bandwidth=4e10, link_bandwidth=1)
    shown = speculation.rows_table(result, ("int8", "float32"), chip, (2, 8)).data
    cells = re.findall(r"<td>(measured|bound)</td><td>([\d.]+)</td><td>([\d.]+)</td>", shown)
    assert [name for name, *_ in cells] == ["measured", "bound"] * 2
    seconds = speculation.rows_seconds(result, "int8")
    assert cells[0][1:] == tuple(f"{seconds[n] / seconds[1]:.2f}" for n in (2, 8))
    assert cells[1][1:] == ("1.00", "1.00")


def test_the_curves_are_the_formula_and_their_best_is_marked():
    curves = ((0.9, 0.1, 0.0), (0.5, 0.5, 0.0))
    figure = speculation.speedup_by_length(curves, most=8)
    lines = figure.axes[0].lines
    for i, (a, c, m) in enumerate(curves):
        curve, mark = lines[2 * i], lines[2 * i + 1]
        assert list(curve.get_ydata()) == [cost.speculative_speedup(a, k, c, 1 + k * m) for k in range(9)]
        assert mark.get_xdata()[0] == cost.best_draft_length(a, c, m, 8)
        assert mark.get_ydata()[0] == max(curve.get_ydata())
    plt.close(figure)


def test_measured_and_predicted_stand_on_one_line():
    rows = [row for row in MEASURED["rows"] if row["dtype"] == "int8" and row["temperature"] == 0]
    result = {"rows": rows}
    best = speculation.best_rows(result)
    assert len(best) == len({(row["task"], row["draft"]) for row in rows})
    for row in best:
        assert row["speedup"] == max(
            o["speedup"] for o in rows if (o["task"], o["draft"]) == (row["task"], row["draft"])
        )
    figure = speculation.speedups({"one": result})
    points = {}
    for line in figure.axes[0].lines:
        if line.get_marker() in "oD":
            points.setdefault(float(line.get_ydata()[0]), {})[line.get_marker()] = float(line.get_xdata()[0])
    assert list(points.values()) == [{"D": row["predicted"], "o": row["speedup"]} for row in best]
    shown = speculation.speedup_table(result).data
    assert re.findall(r"<td>([\d.]+)\u00a0x</td>", shown)[::2] == [f"{row['speedup']:.2f}" for row in best]
    plt.close(figure)


def test_what_the_page_says_of_the_drafts():
    best = {(row["task"], row["draft"]): row for row in speculation.best_rows(MEASURED)}
    for task in ("copy", "edit code", "documentation"):
        assert best[task, "prompt lookup"]["speedup"] == max(r["speedup"] for (t, _), r in best.items() if t == task)
        assert best[task, "prompt lookup"]["speedup"] > 1.2
    for row in MEASURED["rows"]:
        assert abs(row["tokens_per_call"] / row["expected_tokens"] - 1) < 0.25
        if row["draft"] == "4 bits":
            assert row["acceptance"] > 0.7 and row["draft_cost"] > 0.5
        if row["draft"] == "26 of 30 layers":
            assert row["acceptance"] > 0.45 and row["draft_cost"] > 0.75
        if row["draft"] == "15 of 30 layers":
            assert row["acceptance"] < 0.2 and row["speedup"] < 1
