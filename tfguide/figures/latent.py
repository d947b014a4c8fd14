"""The table and the figure of the two forms of latent attention, of what `python -m tfguide.bench.latent` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.figures.conformance import FRAMEWORKS
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.figures.tables import grouped_table
from tfguide.parts import LatentAttention

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure


def crossing(latent: LatentAttention) -> float:
    """The number of new positions from which absorbing needs more products than making keys and values.

    A pair of positions costs `2 R + r` products absorbed and `n + r + v` made, and making them `R (n + v)` for each
    visible position, with R = `kv_rank`, r = `d_rope`, n = `d_nope`, v = `d_value`. It is infinite where absorbing
    never needs more.
    """
    made = latent.d_nope + latent.d_value
    more = 2 * latent.kv_rank - made
    return latent.kv_rank * made / more if more > 0 else float("inf")


def forms_table(result: Mapping[str, Any]) -> HTML:
    """A line for each number of new and of visible positions: how many times as fast absorbing is, and both times."""
    lines = []
    for row in result["rows"]:
        times = (f"{1e3 * row[f'{form}_seconds']:,.0f}" for form in ("absorbed", "made"))
        chosen = "absorbed" if row["absorbs"] else "made"
        cells = (f"{row['speed']:.2f}\u00a0x", *times, chosen, f"{row['n_queries']:,}", f"{row['n_keys']:,}")
        lines.append((FRAMEWORKS[row["framework"]], cells))
    return grouped_table(("absorbed is", "absorbed", "made", "chosen", "new", "visible"), lines)


def forms(result: Mapping[str, Any]) -> Figure:
    """How many times as fast absorbing is, by the new positions; dotted: where the products of both forms are equal."""
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in result["rows"]:
        lines.setdefault((row["framework"], row["n_keys"]), []).append((row["n_queries"], row["speed"]))
    contexts = sorted({keys for _, keys in lines})
    with style():
        fig, ax = plt.subplots(figsize=size(0.75))
        for (framework, keys), points in lines.items():
            look = {"color": PALETTE[list(FRAMEWORKS).index(framework)], "linestyle": DASHES[contexts.index(keys)]}
            label = f"{FRAMEWORKS[framework]}, {keys:,} visible"
            ax.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=label, **look)
        ax.axhline(1, color=ink(), linewidth=1)
        ax.axvline(crossing(LatentAttention(**result["latent"])), color=ink(), linewidth=1.2, linestyle=(0, (1, 2)))
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ticks = sorted({row["n_queries"] for row in result["rows"]})
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        speeds = [row["speed"] for row in result["rows"]]
        ticks = [2.0**i for i in range(-4, 6) if min(speeds) / 2 <= 2.0**i <= 2 * max(speeds)]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("new positions")
        ax.set_ylabel("times as fast, absorbed")
        fig.legend(loc="outside lower center", ncols=1)
    return fig
