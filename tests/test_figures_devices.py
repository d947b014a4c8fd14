"""The figures of many devices show what the ring, the formulas and the plans say, and each names its model and mesh."""

import re

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from tfguide import cost  # noqa: E402  (after the check for matplotlib)
from tfguide.cost.scaling import WORKLOADS  # noqa: E402
from tfguide.figures import collectives, devices, scaling, steppers  # noqa: E402
from tfguide.sharding import ring  # noqa: E402

PHONE = 0.7 * 72 * 4 / 3  # pixels of an inch where a figure has shrunk as far as it does, see `style.to_svg`
SMALL = str.maketrans("₀₁₂₃₊", "0123+")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def held(rounds):
    return [[collectives.name(piece).translate(SMALL) for piece in pieces] for pieces in rounds.held]


def test_how_each_collective_begins_and_ends():
    ends = {one.name: [held(rounds) for rounds in collectives.rounds_of(one)] for one in collectives.COLLECTIVES}
    whole = [[f"{letter}{chip}" for letter in "ABCD"] for chip in range(4)]
    sums = [f"{letter}0+1+2+3" for letter in "ABCD"]
    transposed = [[f"{letter}{chip}" for chip in range(4)] for letter in "ABCD"]
    assert (ends["All-gather"][0], ends["All-gather"][-1]) == ([["A0"], ["B1"], ["C2"], ["D3"]],
                                                               [["A0", "B1", "C2", "D3"]] * 4)  # fmt: skip
    assert (ends["Reduce-scatter"][0], ends["Reduce-scatter"][-1]) == (whole, [[piece] for piece in sums])
    assert (ends["All-reduce"][0], ends["All-reduce"][-1]) == (whole, [sums] * 4)
    assert (ends["All-to-all"][0], ends["All-to-all"][-1]) == (whole, transposed)


def test_the_figure_draws_them_in_columns_and_rows():
    """The colours stand in columns after an all-gather, and in rows after an all-to-all."""
    axes = dict(zip((one.name for one in collectives.COLLECTIVES), collectives.collectives().axes, strict=True))
    for name, line in (("All-gather", "x"), ("All-reduce", "x"), ("All-to-all", "y")):
        cells = [p for p in axes[name].patches if isinstance(p, plt.Rectangle) and p.get_x() > 5]
        assert len(cells) == 16
        lines = {}
        for cell in cells:
            lines.setdefault(round(getattr(cell, f"get_{line}")(), 3), set()).add(cell.get_facecolor())
        assert len(lines) == 4 and all(len(colours) == 1 for colours in lines.values())
    words = [text.get_text() for text in axes["All-to-all"].texts]
    assert "holds 4 of 4" in words and words.count("C₁") == 2
    after = [p for p in axes["All-to-all"].patches if isinstance(p, plt.Rectangle) and p.get_linewidth() == 2]
    assert len(after) == 8  # the diagonal, before and afterwards
    assert [text.get_text() for text in axes["Reduce-scatter"].texts].count("ΣB") == 1


def test_the_stepper_says_what_the_ring_does():
    frames = collectives.frames()
    assert len(frames) == 4 + 4 + 7 + 4
    for one in collectives.COLLECTIVES:
        rounds = collectives.rounds_of(one)
        shown = [frame for frame in frames if frame.says.startswith(one.name)]
        for number, (frame, now) in enumerate(zip(shown, rounds, strict=True)):
            rows = {row.name: row.cells for row in frame.rows}
            for chip in range(4):
                assert len(rows[f"chip {chip}"]) >= 4  # a place for each part
                cells = [c for c in rows[f"chip {chip}"] if c.state != "gone" and c.text != collectives.NOTHING]
                assert sorted(cell.text for cell in cells) == sorted(map(collectives.name, now.held[chip]))
                assert [cell.state for cell in cells].count("new") == (number > 0)
            sent = ring.sent(rounds[: number + 1])
            [cell] = rows["sent by each"]
            assert cell.text.startswith(f"{sent:,} elements") and sent == 256 * number
            assert number == 0 or cell.text.endswith(f"{number}/4 of 1,024")
            moves = [f"{move.source} → {move.target}: {collectives.name(move.piece)}" for move in now.moves]
            assert [cell.text for cell in rows["moves"]] == (moves or ["nothing yet"])
    gone = {one.name: 0 for one in collectives.COLLECTIVES}
    for frame in frames:
        gone[re.split(r"[.,]", frame.says)[0]] += [c.state for row in frame.rows for c in row.cells].count("gone")
    assert gone == {"All-gather": 0, "Reduce-scatter": 12, "All-reduce": 12, "All-to-all": 12}
    steppers.stepper("collectives", frames, legend=collectives.LEGEND)


def test_figures_name_their_model_and_mesh():
    [ax] = devices.communication_volume().axes
    assert ax.get_title(loc="left") == "Plain layer, D = 16,384, F = 65,536, mesh 4 × 4 × 4"
    [ax] = devices.volume_by_chips(4096, 16384).axes
    assert ax.get_title(loc="left") == "Layer of D = 4,096, F = 16,384, mesh X × P/X"
    assert all("PaLM 540B" in ax.get_title(loc="left") for ax in devices.latency_by_chips().axes)


def test_one_dimension_stands_beside_the_others():
    [ax] = devices.communication_volume().axes
    lines = {line.get_label(): line for line in ax.lines}
    tokens, gigabytes = lines["1D weight-stationary"].get_data()
    assert gigabytes == pytest.approx(2e-9 * 2 * tokens.astype(int) * 16384)
    assert (gigabytes > lines["2D weight-stationary"].get_ydata()).all()


def test_the_crossovers_of_plain_and_gated():
    [ax] = devices.volume_by_chips(1024, 4096).axes
    lines = {line.get_label(): line for line in ax.lines}
    flat = lines["one dimension, plain or gated"].get_ydata()[0]
    for words, chips in (("plain", 16), ("gated", 24)):
        line = lines[f"two dimensions, {words}"]
        assert np.interp(chips, *line.get_data()) == pytest.approx(flat, rel=1e-3)
        assert f"{chips} chips" in [text.get_text() for text in ax.texts]
        exact = sum(cost.ffn_communication("2d-ws", 1, 1024, 4096, (4, 16, 1), words == "gated").values()) / 1e3
        assert np.interp(64, *line.get_data()) == pytest.approx(exact, rel=0.03)  # X = 4 of at best 4 and 3.27


def test_scaling_shows_the_plans_and_what_was_published():
    workload = WORKLOADS[1]
    time, price = scaling.scaling([workload]).axes
    line = time.lines[0]
    steps = workload.curve()
    assert line.get_xdata() == pytest.approx([one.chips for one in steps])
    assert line.get_ydata() == pytest.approx([1e3 * one.serial_s for one in steps])
    crosses = [line for line in time.lines if line.get_marker() == "x"]
    assert [tuple(line.get_data()) for line in crosses] == [((8,), (pytest.approx(79.7, rel=1e-3),))]
    assert price.lines[0].get_ydata()[0] == pytest.approx(8 * line.get_ydata()[0] / 512)
    assert [line.get_marker() for line in time.lines[1:-1]] == ["o"] + ["s"] * (len(steps) - 1)


@pytest.mark.parametrize(
    "draw",
    [
        collectives.collectives,
        devices.communication_volume,
        lambda: devices.volume_by_chips(4096, 16384),
        devices.latency_by_chips,
        lambda: scaling.scaling(WORKLOADS[:1]),
    ],
    ids=["collectives", "tokens", "chips", "latency", "scaling"],
)
def test_a_telephone_shows_the_whole_figure(draw):
    assert draw().get_figwidth() * PHONE <= 390 - 2 * 16
