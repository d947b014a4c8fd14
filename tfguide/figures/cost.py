"""The figures of the cost model: sweeps, the communication of layouts, latency against chips, and the roofline."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.cost import LAYOUTS, ffn_communication
from tfguide.cost.published import FIGURE_3, FIGURE_6, palm
from tfguide.cost.step import step
from tfguide.figures.style import DASHES, PALETTE, ink, size, style

_LAYOUT_NAMES = {
    "1d-ws": "1D weight-stationary", "2d-ws": "2D weight-stationary", "wg-x": "gathered over X",
    "wg-xy": "gathered over X, Y", "wg-xyz": "gathered over all",
}  # fmt: skip


def sweep(name: str, points: Sequence[tuple[int, float, float, int]], title: str) -> Figure:
    """Milliseconds a token and tokens a second by batch, context or chips: (value, ms, tokens/s, chips) each.

    For files: black on white, not in the colours of a page.
    """
    values, milliseconds, speed, chips = (np.array(column) for column in zip(*points, strict=True))
    fig, axes = plt.subplots(1, 2, figsize=size(0.42), constrained_layout=True)
    for ax, y, label in ((axes[0], milliseconds, "milliseconds a token"), (axes[1], speed, "tokens a second")):
        ax.plot(values, y, color=PALETTE[0], marker="o", markersize=3)
        ax.set_xlabel(name)
        ax.set_ylabel(label)
        if values[-1] > 20 * values[0]:
            ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        for index in range(1, len(values)):
            if chips[index] != chips[index - 1]:  # where another number of chips is the cheapest
                ax.annotate(
                    f"{chips[index]} chips", (values[index], y[index]), (2, 8), textcoords="offset points", size=7
                )
    fig.suptitle(title)
    return fig


def communication_volume() -> Figure:
    """Figure 3 of Pope et al.: what one layer sends by tokens, our curves and the published points."""
    tokens = np.geomspace(1_000, 4_000_000, 200)
    with style():
        fig, ax = plt.subplots(figsize=size(0.55))
        for index, layout in enumerate(LAYOUTS[1:]):
            at = {"color": PALETTE[index], "linestyle": DASHES[index]}
            gigabytes = [
                2e-9 * sum(ffn_communication(layout, int(t), 16384, 65536, (4, 4, 4)).values()) for t in tokens
            ]
            ax.loglog(tokens, gigabytes, label=_LAYOUT_NAMES[layout], **at)
            ax.plot(
                list(FIGURE_3), [cells[index] for cells in FIGURE_3.values()], "o", color=PALETTE[index], markersize=6
            )
        ax.set_xlabel("tokens in the batch")
        ax.set_ylabel("GB sent by a chip, one layer")
        ax.grid(True)
        ax.legend(loc="upper left")
    return fig


def latency_by_chips() -> Figure:
    """Figure 6 of Pope et al.: what was measured, the sum of the parts, and the roofline, by chips."""
    chips = np.array(list(FIGURE_6))
    with style():
        fig, axes = plt.subplots(1, 2, figsize=size(0.5), sharey=True)
        for ax, column, layout in ((axes[0], 0, "2d-ws"), (axes[1], 1, "1d-ws")):
            steps = [step(palm(), "tpu-v4", int(n), 512, 2048, weights="bf16", layout=layout) for n in chips]
            ax.plot(chips, [FIGURE_6[n][column] for n in chips], "o", color=PALETTE[2], linestyle="-", label="measured")
            ax.plot(
                chips, [1e3 * s.serial_s for s in steps], color=PALETTE[0], linestyle=DASHES[1], label="sum of parts"
            )
            ax.plot(chips, [1e3 * s.roofline_s for s in steps], color=PALETTE[1], linestyle=DASHES[2], label="roofline")
            ax.set_xscale("log", base=2)
            ax.set_xticks(chips, [str(n) for n in chips])
            ax.set_ylim(bottom=0)
            ax.set_title(_LAYOUT_NAMES[layout])
            ax.set_xlabel("TPU v4 chips")
            ax.grid(True)
        axes[0].set_ylabel("ms a token, batch 512")
        axes[0].legend(loc="upper right")
    return fig


def roofline(
    peaks: Mapping[str, float], bandwidth: float, points: Sequence[tuple[str, float, float]], unit: str = "GFLOP/s"
) -> Figure:
    """Operations a second by operations for each byte: a roof for each peak, and what was measured.

    peaks: operations a second by name; points: (name, operations per byte, operations a second).
    """
    scale = {"GFLOP/s": 1e9, "TFLOP/s": 1e12}[unit]
    low = min([0.25, *(x / 2 for _, x, _ in points)])
    high = 20 * max(peaks.values()) / bandwidth
    x = np.geomspace(low, high, 200)
    with style():
        fig, ax = plt.subplots(figsize=size(0.55))
        for index, (name, peak) in enumerate(peaks.items()):
            roof = np.minimum(peak, bandwidth * x) / scale
            ax.loglog(x, roof, color=PALETTE[index], linestyle=DASHES[index], label=name)
        markers = "osD^v<>PX*"
        for index, (name, intensity, rate) in enumerate(points):
            at = {"marker": markers[index % len(markers)], "color": PALETTE[index % len(PALETTE)], "linestyle": "none"}
            ax.plot(intensity, rate / scale, markersize=6, label=name, **at)
        ax.set_xlabel("operations for each byte read")
        ax.set_ylabel(unit)
        ax.grid(True)
        ax.legend(loc="lower right")
    return fig


def predictions(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Predicted against measured seconds, (name, measured, predicted): on the diagonal they agree, dotted: 25% off."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    low = 0.7 * min(min(m, p) for _, m, p in rows)
    high = 1.4 * max(max(m, p) for _, m, p in rows)
    ends = np.array([low, high])
    with style():
        fig, ax = plt.subplots(figsize=size(0.62, 6.2))
        ax.loglog(ends, ends, color=ink(), linewidth=1.0, linestyle="-")
        for factor in (0.75, 1.25):
            ax.loglog(ends, factor * ends, color=ink(), linewidth=0.8, linestyle=(0, (1, 2)))
        markers = "osD^v<>P"
        for index, name in enumerate(names):
            mine = [(m, p) for n, m, p in rows if n == name]
            marker = markers[index % len(markers)]
            ax.plot(*zip(*mine, strict=True), marker, color=PALETTE[index % len(PALETTE)], linestyle="none", label=name)
        ax.set_xlabel("measured, seconds")
        ax.set_ylabel("predicted, seconds")
        ax.legend(loc="upper left")
    return fig


def collectives() -> Figure:
    """What four chips hold before and after an all-gather, a reduce-scatter and an all-to-all."""
    n = 4
    before = {
        "all-gather": [[chip if part == chip else None for part in range(n)] for chip in range(n)],
        "reduce-scatter": [[None if part is None else "+" for part in range(n)] for _ in range(n)],
        "all-to-all": [[chip for _ in range(n)] for chip in range(n)],
    }
    after = {
        "all-gather": [list(range(n)) for _ in range(n)],
        "reduce-scatter": [["sum" if part == chip else None for part in range(n)] for chip in range(n)],
        "all-to-all": [list(range(n)) for _ in range(n)],
    }
    with style():
        fig, axes = plt.subplots(1, 3, figsize=size(0.24))
        for ax, name in zip(axes, before, strict=True):
            for left, state, title in ((0.0, before[name], "before"), (5.6, after[name], "after")):
                ax.text(left + n / 2, -0.35, title, ha="center", va="bottom", fontsize=9)
                for chip in range(n):
                    for part in range(n):
                        _cell(ax, left + part, chip * 1.35, state[chip][part], part)
            for chip in range(n):
                ax.text(-0.25, chip * 1.35 + 0.5, f"chip {chip}", ha="right", va="center", fontsize=8)
            ax.annotate("", (5.45, 2.5), (4.2, 2.5), arrowprops={"arrowstyle": "->", "color": ink()})
            ax.set_title(name, loc="center")
            ax.set_xlim(-2.1, 9.8)
            ax.set_ylim(5.4, -1.0)
            ax.set_aspect("equal")
            ax.axis("off")
    return fig


def _cell(ax, x, y, value, part):
    """One part of an array: its colour says which part, or from which chip; hatched: a sum that is not complete."""
    if value is None:
        ax.add_patch(plt.Rectangle((x, y), 1, 1, fill=False, edgecolor=ink(), linewidth=0.5, alpha=0.35))
        return
    index = value if isinstance(value, int) else part
    hatch = "////" if value == "+" else None
    colour = "none" if hatch else PALETTE[index]
    ax.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=PALETTE[index], linewidth=1.0, hatch=hatch))
