"""Pruning in pictures: where the zeros are, what they are worth, and quality against speed against memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.style import BLUE, DASHES, GOLD, PALETTE, TEAL, WIDTH, ink, size, style
from tfguide.figures.tables import Cell, grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

MODELS = {"smollm2": "SmolLM2, 135 million weights", "documentation": "the book's model, 4.2 million weights"}
LOOKS = {"types of numbers": ("o", BLUE), "zeros": ("s", GOLD), "smaller matrices": ("^", TEAL)}


def patterns(weights: Mapping[str, np.ndarray]) -> Figure:
    """Matrices (in, out) with zeros, two side by side: an empty cell is a 0, a darker one a larger magnitude."""
    with style():
        fig, axes = plt.subplots((len(weights) + 1) // 2, 2, figsize=(WIDTH, 2.75 * ((len(weights) + 1) // 2)))
        for ax, (name, weight) in zip(axes.flat, weights.items(), strict=True):
            largest = np.abs(weight).max()
            for (row, column), value in np.ndenumerate(weight):
                shade = 0.25 + 0.75 * abs(value) / largest if value else 0.0
                look = {"facecolor": (*_rgb(BLUE), shade), "edgecolor": ink(), "linewidth": 0.5, "clip_on": False}
                ax.add_patch(plt.Rectangle((column, row), 1, 1, **look))
            ax.set(xlim=(0, weight.shape[1]), ylim=(weight.shape[0], 0), aspect="equal", xticks=[], yticks=[])
            ax.set_title(name)
            ax.set_xlabel("outputs")
            ax.set_ylabel("inputs")
    return fig


def _rgb(colour):
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def zeros(result: Mapping[str, Any]) -> Figure:
    """How many times as fast as the dense product each kind of matrix is, a panel for each number of rows.

    result: what `python -m tfguide.bench.sparsity --json` wrote.
    """
    by_rows: dict[int, list] = {}
    for row in result["sparsity"]:
        by_rows.setdefault(row["rows"], []).append(row)
    with style():
        fig, axes = plt.subplots(len(by_rows), 1, figsize=(WIDTH, 2.1 * len(by_rows)), sharex=True, squeeze=False)
        for ax, (n, rows) in zip(axes[:, 0], by_rows.items(), strict=True):
            names = [row["kind"] for row in rows]
            colours = [PALETTE[0 if "sparse" not in name else 1] for name in names]
            ax.barh(range(len(rows)), [row["speed"] for row in rows], color=colours, height=0.65)
            ax.set_yticks(range(len(rows)), names)
            ax.invert_yaxis()
            ax.axvline(1, color=ink(), linewidth=1)
            ax.set_title(f"{n} row" + "s" * (n > 1))
        axes[-1, 0].set_xlabel("times as fast as the dense product")
    return fig


def zeros_table(result: Mapping[str, Any]) -> HTML:
    """The times of `zeros`, a group for each number of rows."""
    rows = [
        (f"{row['rows']} row" + "s" * (row["rows"] > 1),
         (row["kind"], f"{row['speed']:.2f}\u00a0x", f"{1e3 * row['seconds']:.2f} ms"))
        for row in result["sparsity"]
    ]  # fmt: skip
    return grouped_table(("matrix", "as fast as dense", "time"), rows)


def changes(values: Sequence[float]) -> Figure:
    """How much each layer changes its input, as `layer_changes` says; the tenth that changes least stands out."""
    least = np.argsort(values, kind="stable")[: max(1, len(values) // 10)]
    with style():
        fig, ax = plt.subplots(figsize=size(0.45))
        ax.bar(range(len(values)), values, color=[GOLD if i in least else BLUE for i in range(len(values))])
        ax.set_yscale("log")
        ax.set_xlabel("layer")
        ax.set_ylabel("1 - mean cosine")
    return fig


def numbered(results: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The number of each variant in the figure and in the table, by its name, from 1."""
    names = dict.fromkeys(row["name"] for result in results.values() for row in result["rows"])
    order = list(next(iter(results.values()))["rows"])
    known = [row["name"] for row in order]
    return {name: i + 1 for i, name in enumerate([*known, *(name for name in names if name not in known)])}


def trade(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Perplexity against the time of a step, a panel for each model; the area of a mark is the memory of the weights.

    results: what `python -m tfguide.bench.trade --json` wrote, by the keys of MODELS. Marks have the numbers of
    `numbered`.
    """
    numbers = numbered(results)
    with style():
        fig, axes = plt.subplots(len(results), 1, figsize=(WIDTH, 3.7 * len(results)), squeeze=False)
        for ax, (key, result) in zip(axes[:, 0], results.items(), strict=True):
            most = max(row["weights_bytes"] for row in result["rows"])
            for row in result["rows"]:
                marker, colour = LOOKS[row["family"]]
                area = 30 + 170 * row["weights_bytes"] / most
                x, y = 1e3 * row["seconds"], row["perplexity"]
                ax.scatter(x, y, s=area, marker=marker, color=colour, alpha=0.55, linewidth=0)
            places = {numbers[row["name"]]: (1e3 * row["seconds"], row["perplexity"]) for row in result["rows"]}
            for some in near(places):
                x = math.exp(sum(math.log(places[i][0]) for i in some) / len(some))
                y, words = min(places[i][1] for i in some), ", ".join(map(str, some))
                aside = (
                    {"xytext": (9, 0), "va": "center"}
                    if len(some) == 1
                    else {"xytext": (0, -8), "ha": "center", "va": "top"}
                )
                ax.annotate(words, (x, y), textcoords="offset points", fontsize=8.5, **aside)
            _log_axis(ax, [row["perplexity"] for row in result["rows"]])
            times = [x for x, _ in places.values()]
            ax.set_xscale("log")
            ax.set_xlim(0.85 * min(times), 1.5 * max(times))
            ticks = [k * 10.0**n for n in range(-3, 4) for k in (1, 2, 5)]
            ticks = [tick for tick in ticks if 0.85 * min(times) <= tick <= 1.5 * max(times)]
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
            ax.grid(True)
            ax.set_title(MODELS[key])
            ax.set_ylabel("perplexity")
            ax.set_xlabel("ms for a step")
        for family, (marker, colour) in LOOKS.items():
            axes[0, 0].scatter([], [], s=70, marker=marker, color=colour, alpha=0.55, label=family)
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=0.8)
    return fig


def near(places: Mapping[int, tuple[float, float]]) -> list[list[int]]:
    """The numbers of marks (x, y) in groups whose names would overlap on logarithmic scales.

    >>> near({1: (10.0, 20.0), 2: (5.0, 20.0), 3: (10.1, 20.5), 4: (10.0, 2000.0)})
    [[2], [1, 3], [4]]
    """
    logs = {i: np.log(place) for i, place in places.items()}
    spread = np.ptp(list(logs.values()), axis=0) + 1e-9
    groups: list[list[int]] = []
    for number in sorted(places, key=places.get):
        for group in groups:
            if (abs(logs[number] - logs[group[0]]) < spread * (0.09, 0.06)).all():
                group.append(number)
                break
        else:
            groups.append([number])
    return [sorted(group) for group in groups]


def _log_axis(ax, values):
    """A logarithmic axis of perplexity with a few numbers that a reader knows, written out."""
    low, high = math.log(min(values)), math.log(max(values))
    pad = max(0.07 * (high - low), 0.05)
    least, most = math.exp(low - 2 * pad), math.exp(high + pad)
    steps = (
        (1, 1.2, 1.4, 1.6, 2, 3, 4, 5, 6, 7, 8, 9) if most < 4 * least else (1, 2, 5) if most < 300 * least else (1,)
    )
    ticks = [k * 10**n for n in range(8) for k in steps if least <= k * 10**n <= most]
    ax.set_yscale("log")
    ax.set_ylim(least, most)
    ax.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()


def trade_table(results: Mapping[str, Mapping[str, Any]]) -> HTML:
    """Quality, memory and speed, a group for each model; the numbers are those of the figure."""
    numbers, lines = numbered(results), []
    for key, result in results.items():
        for row in result["rows"]:
            error = f"\u00b1 {row['accuracy_error']:.0%}"
            lines.append((MODELS[key], (
                Cell(f"{numbers[row['name']]}. {row['name']}"), _perplexity(row["perplexity"]),
                Cell(f"{row['accuracy']:.0%}", below=error), f"{row['weights_bytes'] / 1e6:,.1f}",
                f"{1e3 * row['seconds']:.2f}", f"{row['speed']:.2f}\u00a0x", f"{1e3 * row['predicted_seconds']:.2f}",
            )))  # fmt: skip
    return grouped_table(("way", "perplexity", "right", "MB", "ms a step", "faster", "by its bytes"), lines)


def _perplexity(value):
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def repairs(result: Mapping[str, Any]) -> Figure:
    """Perplexity of the held-out text by the steps of further training, a line for each model."""
    with style():
        fig, ax = plt.subplots(figsize=size(0.7))
        for k, row in enumerate(result["rows"]):
            points = [(one["steps"], one["perplexity"]) for one in row["curve"]]
            label = "nothing removed" if row["name"] == "float32" else row["name"]
            look = {"color": PALETTE[k], "linestyle": DASHES[k], "marker": "os^D"[k % 4]}
            ax.plot(*zip(*points, strict=True), markersize=4, label=label, **look)
        _log_axis(ax, [one["perplexity"] for row in result["rows"] for one in row["curve"]])
        ax.set_xlabel("steps of training")
        ax.set_ylabel("perplexity")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def repairs_table(result: Mapping[str, Any]) -> HTML:
    """Perplexity before further training, after its first measurement and at its end, a line for each model."""
    rows = result["rows"]
    head = ("removed", *(f"after {rows[0]['curve'][i]['steps']} steps" for i in (0, 1, -1)))
    lines = [
        (
            "nothing" if row["name"] == "float32" else row["name"],
            *(f"{row['curve'][i]['perplexity']:,.1f}" for i in (0, 1, -1)),
        )
        for row in rows
    ]  # fmt: skip
    return table(head, lines)
