"""Section 9.3 in pictures: recall by distance, and where a planted fact is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.bench.recall import DISTANCES, LENGTH, TRAINED
from tfguide.figures.style import DASHES, PALETTE, WIDTH, heat_map, style
from tfguide.figures.tables import table
from tfguide.tasks.recall import N_VALUES

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

NAMES = {"sinusoidal": "sinusoidal", "rotary": "rotary", "alibi": "ALiBi", "none": "no positions"}
KEPT = {"all": "all", "newest": "window", "sinks": "window, sinks", "half": "window in half"}


def recall_curves(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """The share of right answers by distance, a curve for each encoding of positions, in two panels.

    Above, the fact begins a text that is as long as the distance says. Below, all texts are equally long. The vertical
    line is the trained length, the horizontal one guessing among all values. found: by the encoding, `scores` of
    `tfguide.bench.recall`.
    """
    panels = {"short": "The fact begins the text", "long": f"The fact lies anywhere in {LENGTH} tokens"}
    with style():
        fig, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 5.4), sharex=True)
        for ax, (kind, title) in zip(axes, panels.items(), strict=True):
            for k, (name, shares) in enumerate(found.items()):
                look = {"color": PALETTE[k], "linestyle": DASHES[k], "marker": "os^D"[k], "markersize": 4}
                ax.plot(DISTANCES, shares[kind], label=NAMES[name], **look)
            line = {"color": PALETTE[-1], "linewidth": 0.9, "linestyle": DASHES[2]}
            ax.axvline(TRAINED, **line)
            ax.axhline(1 / N_VALUES, **line)
            ax.set(title=title, ylabel="right answers", ylim=(0, 1.05))
            ax.set_yticks((0, 0.5, 1), ("0", "50%", "100%"))
        axes[-1].set_xscale("log", base=2)
        ticks = (4, 8, 16, 32, 64, 128, 256, 512)
        axes[-1].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[-1].set_xlabel("tokens between a key and its repetition")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def recall_table(found: Mapping[str, Mapping[str, Sequence[float]]], kind: str, distances: Sequence[int]) -> HTML:
    """The share of right answers at some of DISTANCES, a line for each encoding of positions."""
    columns = [DISTANCES.index(distance) for distance in distances]
    lines = [(NAMES[name], *(f"{shares[kind][column]:.0%}" for column in columns)) for name, shares in found.items()]
    return table(("positions", *(f"{distance:,}" for distance in distances)), lines, numbers=True)


def found_at(result: Mapping[str, Any], kept: str) -> tuple[list[int], list[float], np.ndarray, np.ndarray]:
    """Lengths, depths, and how many facts were found there and how many asked, both (lengths, depths).

    kept: which way to keep the text. result: of `tfguide.bench.needle`.
    """
    rows = [row for row in result["rows"] if row["kept"] == kept]
    lengths, depths = sorted({row["length"] for row in rows}), rows[0]["depths"]
    found, asked = (np.zeros((len(lengths), len(depths)), int) for _ in range(2))
    for row in rows:
        found[lengths.index(row["length"])] += row["found"]
        asked[lengths.index(row["length"])] += 1
    return lengths, depths, found, asked


def needle_map(result: Mapping[str, Any]) -> Figure:
    """Where a fact is found: lengths of the text by depths, with the number found of those asked in each cell."""
    lengths, depths, found, asked = found_at(result, "all")
    return _map(found, asked, [f"{length:,}" for length in lengths], depths, "tokens of the text")


def kept_map(result: Mapping[str, Any], length: int) -> Figure:
    """The same for one length, by what the cache keeps of the text."""
    lines = []
    measured = {row["kept"] for row in result["rows"] if row["length"] == length}
    names = [kept for kept in KEPT if kept in measured]
    for kept in names:
        lengths, depths, found, asked = found_at(result, kept)
        lines.append((found[lengths.index(length)], asked[lengths.index(length)]))
    found, asked = (np.array(part) for part in zip(*lines, strict=True))
    return _map(found, asked, [KEPT[kept] for kept in names], depths, "what is kept")


def _map(found, asked, names, depths, label):
    shares = found / asked
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 0.46 * len(names) + 1.0))
        heat_map(ax, shares, vmin=0, vmax=1)
        for y, x in np.ndindex(*shares.shape):
            colour = "#000000" if shares[y, x] > 0.6 else "#ffffff"
            ax.text(x, y, f"{found[y, x]}/{asked[y, x]}", ha="center", va="center", color=colour, fontsize=9)
        ax.set_yticks(range(len(names)), names)
        ax.set_xticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        ax.set(xlabel="depth of the fact: 0% is the beginning of the text", ylabel=label)
    return fig
