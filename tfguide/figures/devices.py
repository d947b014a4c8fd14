"""The figures of many devices: what collectives move, what layouts send, and latency against chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba

from tfguide.cost import LAYOUTS, ffn_communication
from tfguide.cost.published import FIGURE_3, FIGURE_3_SIZES, FIGURE_6, palm
from tfguide.cost.step import step
from tfguide.figures import canvas
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.sharding.mesh import Mesh

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LAYOUT_NAMES = {
    "1d-ws": "1D weight-stationary", "2d-ws": "2D weight-stationary", "wg-x": "weights gathered over X",
    "wg-xy": "weights gathered over X, Y", "wg-xyz": "weights gathered over all",
}  # fmt: skip
_CHIPS = 4
_AXES = (0, 1, 2)

#: One cell of a chip: the letter of the piece, and the chips that its values came from.
Cell = tuple[str, tuple[int, ...]] | None


def communication_volume() -> Figure:
    """Figure 3 of Pope et al.: what one layer sends by tokens, our curves and the published points."""
    d_model, d_ff, mesh = FIGURE_3_SIZES
    tokens = np.geomspace(1_000, 4_000_000, 200)
    with style():
        fig, ax = plt.subplots(figsize=size(0.75))
        for index, layout in enumerate(LAYOUTS[1:]):
            at = {"color": PALETTE[index], "linestyle": DASHES[index]}
            gigabytes = [2e-9 * sum(ffn_communication(layout, int(t), d_model, d_ff, mesh).values()) for t in tokens]
            ax.loglog(tokens, gigabytes, label=_LAYOUT_NAMES[layout], **at)
            ax.plot(list(FIGURE_3), [cells[index] for cells in FIGURE_3.values()], "o", color=PALETTE[index])
        ax.set_title(f"D = {d_model:,}, F = {d_ff:,}, mesh {' × '.join(map(str, mesh))}")
        ax.set_xlabel("tokens in the batch")
        ax.set_ylabel("GB sent by a chip, one layer")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
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
            ax.set_title(f"PaLM 540B, {_LAYOUT_NAMES[layout]}")
            ax.set_ylabel("ms a token")
            ax.grid(True)
        axes[1].set_xlabel("TPU v4 chips")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def collectives() -> Figure:
    """What four chips hold before and after an all-gather, a reduce-scatter and an all-to-all.

    The colour of a cell says which chip its values came from, the letter which piece of the array it is.
    """
    with style():
        fig, axes = plt.subplots(3, 1, figsize=size(1.52))
        for ax, (name, states) in zip(axes, moves().items(), strict=True):
            for left, state, title in ((0.0, states[0], "before"), (5.9, states[1], "after")):
                ax.text(left + _CHIPS / 2, -0.2, title, ha="center", va="bottom", fontsize=10)
                for chip, cells in enumerate(state):
                    for place, cell in enumerate(cells):
                        _draw(ax, left + place, chip * 1.2, cell)
            for chip in range(_CHIPS):
                ax.text(-0.25, chip * 1.2 + 0.5, f"chip {chip}", ha="right", va="center", fontsize=10)
            canvas.arrow(ax, (4.35, 2.3), (5.55, 2.3), width=1.3)
            ax.set_title(name)
            ax.set(xlim=(-2.0, 10.1), ylim=(4.7, -0.9), aspect="equal")
            ax.axis("off")
    return fig


def moves() -> dict[str, tuple[list[list[Cell]], list[list[Cell]]]]:
    """What each chip holds before and after each collective, as the simulated mesh moves it: chips by cells."""
    mesh = Mesh((1, 1, _CHIPS))
    rows = np.tile(np.arange(_CHIPS), (_CHIPS, 1))  # the pieces that a chip with a whole array has
    mine = 1 << np.arange(_CHIPS)  # a bit for each chip: the bits of a sum say which chips it came from
    gathered = [
        mesh.all_gather({c: a[i : i + 1] for i, c in enumerate(mesh.chips)}, _AXES, 0, "") for a in (rows[0], mine)
    ]
    reduced = [
        mesh.reduce_scatter({c: a[i] for i, c in enumerate(mesh.chips)}, _AXES, 0, "")
        for a in (rows, np.tile(mine[:, None], (1, _CHIPS)))
    ]
    exchanged = [
        mesh.all_to_all({c: a[i : i + 1] for i, c in enumerate(mesh.chips)}, _AXES, 1, 0, "")
        for a in (rows, np.tile(mine[:, None], (1, _CHIPS)))
    ]

    def cells(parts, times=1):
        pieces, origins = ([part[chip].ravel() for chip in mesh.chips] for part in parts)
        return [
            [(_letter(p // times), _chips(o)) for p, o in zip(*both, strict=True)]
            for both in zip(pieces, origins, strict=True)
        ]

    own: list[list[Cell]] = [[(_letter(chip), (chip,))] for chip in range(_CHIPS)]
    every: list[list[Cell]] = [[(_letter(piece), (chip,)) for piece in range(_CHIPS)] for chip in range(_CHIPS)]
    return {
        "All-gather": (_in_place(own), cells(gathered)),
        "Reduce-scatter": (every, _in_place(cells(reduced, times=_CHIPS))),  # the pieces' numbers were added as well
        "All-to-all": (every, cells(exchanged)),
    }


def _letter(piece):
    return "ABCD"[piece]


def _chips(bits):
    return tuple(chip for chip in range(_CHIPS) if bits >> chip & 1)


def _in_place(one_each):
    """One piece on each chip, at the place that its letter has in the whole."""
    return [[cell if place == chip else None for place in range(_CHIPS)] for chip, [cell] in enumerate(one_each)]


def _draw(ax, x, y, cell):
    if cell is None:
        canvas.cell(ax, x, y, 1, 1, edge=to_rgba(ink(), 0.35), linewidth=0.5)
        return
    letter, origins = cell
    width = 1 / len(origins)
    for index, chip in enumerate(origins):
        canvas.cell(ax, x + index * width, y, width, 1, PALETTE[chip], opacity=0.45, linewidth=0)
    edge = PALETTE[origins[0]] if len(origins) == 1 else ink()
    canvas.cell(ax, x, y, 1, 1, edge=edge, linewidth=1.0)
    canvas.text(ax, x + 0.5, y + 0.52, letter)
