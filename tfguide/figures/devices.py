"""The figures of many devices: what layouts send by tokens and by chips, and latency against chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide.cost import LAYOUTS, ffn_communication
from tfguide.cost.published import FIGURE_3, FIGURE_3_SIZES, FIGURE_6, palm
from tfguide.cost.step import step
from tfguide.figures.style import DASHES, PALETTE, size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the figures call each layout.
LAYOUT_NAMES = {
    "1d-ws": "1D weight-stationary", "2d-ws": "2D weight-stationary", "wg-x": "weights gathered over X",
    "wg-xy": "weights gathered over X, Y", "wg-xyz": "weights gathered over all",
}  # fmt: skip


def communication_volume() -> Figure:
    """Figure 3 of Pope et al. with one dimension added: what one layer sends by tokens, and the published points."""
    d_model, d_ff, mesh = FIGURE_3_SIZES
    tokens = np.geomspace(1_000, 4_000_000, 200)
    with style():
        fig, ax = plt.subplots(figsize=size(0.82))
        for index, layout in enumerate(LAYOUTS):
            at = {"color": PALETTE[index], "linestyle": DASHES[index]}
            gigabytes = [2e-9 * sum(ffn_communication(layout, int(t), d_model, d_ff, mesh).values()) for t in tokens]
            ax.loglog(tokens, gigabytes, label=LAYOUT_NAMES[layout], **at)
            if index:  # the paper's figure has no one-dimensional layout
                ax.plot(list(FIGURE_3), [cells[index - 1] for cells in FIGURE_3.values()], "o", color=PALETTE[index])
        ax.set_title(f"Plain layer, D = {d_model:,}, F = {d_ff:,}, mesh {' × '.join(map(str, mesh))}")
        ax.set_xlabel("tokens in the batch")
        ax.set_ylabel("GB sent by a chip, one layer")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def volume_by_chips(d_model: int, d_ff: int) -> Figure:
    """What one layer sends for a token by chips, weights stationary in one and two dimensions, plain and gated.

    X is chosen freely, as if it could be a fraction, so that the curves cross where the formulas say. Points: the best
    X that divides the chips.
    """
    chips = np.geomspace(2, 256, 200)
    powers = 2 ** np.arange(1, 9)
    with style():
        fig, ax = plt.subplots(figsize=size(0.75))
        flat = 2e-3 * d_model
        ax.loglog(chips, np.full_like(chips, flat), label="one dimension, plain or gated", color=PALETTE[0])
        for index, gated in ((1, False), (2, True)):
            at = {"color": PALETTE[index], "linestyle": DASHES[index]}
            words = "gated" if gated else "plain"
            sent = 1e-3 * 2 * np.sqrt(2 * d_model * (3 if gated else 2) * d_ff / chips)
            ax.loglog(chips, sent, label=f"two dimensions, {words}", **at)
            ax.plot(powers, [1e-3 * _fewest(int(n), d_model, d_ff, gated) for n in powers], "o", color=PALETTE[index])
            crossover = (6 if gated else 4) * d_ff / d_model
            ax.plot(crossover, flat, "D", color=PALETTE[index], markersize=9, markerfacecolor="none")
            side = {"xytext": (5, 7)} if gated else {"xytext": (-7, -16), "ha": "right"}
            ax.annotate(f"{crossover:g} chips", (crossover, flat), textcoords="offset points", fontsize=9, **side)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_xticks(powers, [str(n) for n in powers])
        ax.minorticks_off()
        ax.set_title(f"Layer of D = {d_model:,}, F = {d_ff:,}, mesh X × P/X")
        ax.set_xlabel("chips, P")
        ax.set_ylabel("thousand elements a token")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=1)
    return fig


def latency_by_chips() -> Figure:
    """Figure 6 of Pope et al.: what was measured, the sum of the parts, and the roofline, by chips."""
    chips = np.array(list(FIGURE_6))
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(1.05), sharex=True, sharey=True)
        for ax, column, layout in ((axes[0], 0, "2d-ws"), (axes[1], 1, "1d-ws")):
            steps = [step(palm(), "tpu-v4", int(n), 512, 2048, layout=layout) for n in chips]
            ax.plot(chips, [FIGURE_6[n][column] for n in chips], "o", color=PALETTE[2], linestyle="-", label="measured")
            ax.plot(
                chips, [1e3 * s.serial_s for s in steps], color=PALETTE[0], linestyle=DASHES[1], label="sum of parts"
            )
            ax.plot(chips, [1e3 * s.roofline_s for s in steps], color=PALETTE[1], linestyle=DASHES[2], label="roofline")
            ax.set_xscale("log", base=2)
            ax.set_xticks(chips, [str(n) for n in chips])
            ax.minorticks_off()
            ax.set_ylim(bottom=0)
            ax.set_title(f"PaLM 540B, {LAYOUT_NAMES[layout]}")
            ax.set_ylabel("ms a token")
            ax.grid(True)
        axes[1].set_xlabel("TPU v4 chips")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def _fewest(chips, d_model, d_ff, gated):
    """The fewest elements for a token in two dimensions, with an X that divides the chips."""
    shapes = [(X, chips // X, 1) for X in range(1, chips + 1) if chips % X == 0]
    return min(sum(ffn_communication("2d-ws", 1, d_model, d_ff, shape, gated).values()) for shape in shapes)
