"""The figure of scaling: time and price of a token against the number of chips, by the cost model and as published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from tfguide.cost.scaling import CHIP_COUNTS, Workload
from tfguide.figures.devices import LAYOUT_NAMES
from tfguide.figures.style import DASHES, PALETTE, ink, size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = {"1d-ws": "o", "2d-ws": "s", "wg-x": "^", "wg-xy": "v", "wg-xyz": "D"}


def scaling(workloads: Sequence[Workload]) -> Figure:
    """Above, milliseconds for a token by chips; below, chip-milliseconds for one. Crosses are published times.

    A marker on a curve says which layout is the fastest at that number of chips.
    """
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(1.62), sharex=True)
        used = []
        for index, workload in enumerate(workloads):
            look = {"color": PALETTE[index], "linestyle": DASHES[index]}
            steps = workload.curve()
            used += [one.layout for one in steps]
            for ax, of in zip(axes, (lambda chips, s: s, workload.price), strict=True):
                points = [(one.chips, 1e3 * of(one.chips, one.serial_s)) for one in steps]
                ax.plot(*zip(*points, strict=True), **look)
                for (chips, y), one in zip(points, steps, strict=True):
                    ax.plot(chips, y, _MARKERS[one.layout], color=PALETTE[index], markersize=4)
                measured = [(chips, 1e3 * of(chips, s)) for chips, s in workload.measured.items()]
                ax.plot(
                    *zip(*measured, strict=True), "x", color=PALETTE[index], markersize=8, markeredgewidth=2.2, zorder=5
                )
        for ax, words in zip(axes, ("ms a token", "chip-ms a token"), strict=True):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.set_ylabel(words)
            ax.grid(True)
        shown = CHIP_COUNTS[::2]
        axes[0].set_title("The time of a token")
        axes[1].set_title("Its price")
        axes[1].set_xticks(shown, [str(n) for n in shown])
        axes[1].minorticks_off()
        axes[1].set_xlabel("chips")
        curves = [
            Line2D([], [], color=PALETTE[i], linestyle=DASHES[i], label=f"{w.name}, {chip_name(w.chip)}")
            for i, w in enumerate(workloads)
        ]
        layouts = [
            Line2D([], [], color=ink(), marker=marker, linestyle="", markersize=4, label=LAYOUT_NAMES[layout])
            for layout, marker in _MARKERS.items()
            if layout in used
        ]
        cross = Line2D([], [], color=ink(), marker="x", linestyle="", markeredgewidth=2.2, label="published")
        fig.legend(handles=[*curves, *layouts, cross], loc="outside lower center", ncols=1)
    return fig


def chip_name(name: str) -> str:
    """How a chip is written in a text.

    >>> chip_name("tpu-v4"), chip_name("h100")
    ('TPU v4', 'H100')
    """
    return name.upper().replace("-V", " v")
