"""Attention in tiles and in windows: the stepper of section 6.4, and what a cache of a part of the text forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfguide.figures.steppers import Cell, Frame, Row, cells
from tfguide.figures.style import DASHES, PALETTE, size, style
from tfguide.figures.tables import grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {"new": "the tile of this step", "gone": "read, and kept nowhere", "chosen": "carried to the next tile"}


def online_softmax(scores: Sequence[float], values: Sequence[float], tile: int) -> list[Frame]:
    """The frames of attention in tiles, for one query: a frame for each tile, and one for the division.

    scores: (S,), of the query with each key; values: (S,), one feature of each value; tile: keys in a tile.
    Raises ValueError where there is only one tile.
    """
    scores, values = np.asarray(scores, float), np.asarray(values, float)
    if not 1 <= tile < len(scores):
        raise ValueError(f"expected a tile of 1 to {len(scores) - 1} of the {len(scores)} keys, got {tile}")
    frames, maximum, total, output = [], -np.inf, 0.0, 0.0
    for start in range(0, len(scores), tile):
        end = min(start + tile, len(scores))
        higher = max(maximum, scores[start:end].max())
        factor = np.exp(maximum - higher)
        weights = np.exp(scores[start:end] - higher)
        total = factor * total + weights.sum()
        output = factor * output + weights @ values[start:end]
        if start == 0:
            says = f"The largest score of the first tile is {higher:.1f}. Every weight is taken against it."
        elif factor < 1:
            says = (
                f"The maximum rises from {maximum:.1f} to {higher:.1f}. What was added up so far belongs to the old "
                f"one, and is multiplied by exp({maximum:.1f} \u2212 {higher:.1f}) = {factor:.2f}."
            )
        else:
            says = f"No score is above {higher:.1f}: what was added up so far stays as it is."
        maximum = higher
        rows = _texts(scores, values, start, end)
        rows["exp(score \u2212 m)"] = cells(*(f"{weight:.2f}" for weight in weights), state="new")
        rows["m, l, o"] = _carried(maximum, total, output)
        frames.append(Frame(says, tuple(Row(name, some) for name, some in rows.items())))
    rows = _texts(scores, values, len(scores), len(scores))
    rows["m, l, o"] = _carried(maximum, total, output)
    rows["o / l"] = (Cell(f"{output / total:.3f}", "chosen"),)
    says = "Behind the last tile the output is divided by the total, once. All weights together were never in memory."
    return [*frames, Frame(says, tuple(Row(name, some) for name, some in rows.items()))]


def _texts(scores, values, start, end):
    """Scores and values: those before the tile, in it, and behind it."""
    return {
        name: tuple(
            Cell(f"{number:.1f}", "gone" if i < start else "new" if i < end else "") for i, number in enumerate(numbers)
        )
        for name, numbers in (("scores", scores), ("values", values))
    }


def _carried(maximum, total, output):
    return cells(f"m = {maximum:.1f}", f"l = {total:.3f}", f"o = {output:.3f}", state="chosen")


def windows_table(result: Mapping[str, Any]) -> HTML:
    """Perplexity by what the cache keeps, a group for each size, beside that of the whole text.

    result: what `python -m tfguide.bench.windows --json` wrote.
    """
    whole = result["rows"][0]
    lines = [
        (
            "the whole text" if row is whole else f"{row['size']} positions",
            (
                _kept(row, whole), f"{row['perplexity']:,.2f}",
                f"{row['perplexity'] / whole['perplexity']:,.2f}\u00a0x", f"{row['bytes'] / 1e6:.0f} MB",
            ),
        )
        for row in result["rows"]
    ]  # fmt: skip
    return grouped_table(("what is kept", "perplexity", "of the whole", "cache"), lines)


def losses_by_position(result: Mapping[str, Any], positions: int) -> Figure:
    """The perplexity of each part of the text, for caches of `positions` positions and of the whole text."""
    import matplotlib.pyplot as plt

    whole, part = result["rows"][0], result["part"]
    rows = [whole, *(row for row in result["rows"][1:] if row["size"] == positions)]
    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        for k, row in enumerate(rows):
            at = [part * (i + 0.5) for i in range(len(row["parts"]))]
            look = {"color": PALETTE[k], "linestyle": DASHES[k % len(DASHES)], "marker": "os^Dv"[k % 5]}
            ax.plot(at, row["parts"], label=_kept(row, whole), markersize=4, **look)
        ax.axvline(positions, linewidth=0.8, linestyle=DASHES[2], color=PALETTE[-1])
        ax.set(xlabel="position in the text", ylabel=f"perplexity of {part} tokens")
        ax.set_ylim(bottom=0)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def flash_table(result: Mapping[str, Any]) -> HTML:
    """llama.cpp's flash attention beside its plain one: how many times as fast prompts and steps are, by length.

    result: of `tfguide bench lengths --peers`.
    """
    rows = {(row["name"], row["prompt"]): row for row in result["rows"]}
    lines = []
    for length in sorted({length for _, length in rows}):
        plain, flash = rows["llama.cpp", length], rows["llama.cpp, flash", length]
        lines.append(
            (
                f"{length:,} tokens", f"{plain['prompt_seconds'] / flash['prompt_seconds']:.2f}\u00a0x",
                f"{plain['seconds'] / flash['seconds']:.2f}\u00a0x",
                *(f"{row['prompt_seconds']:.2f} s" for row in (plain, flash)),
                *(f"{1e3 * row['seconds']:.1f} ms" for row in (plain, flash)),
            )
        )  # fmt: skip
    head = ("text", "prompt faster", "step faster", "prompt, plain", "in tiles", "step, plain", "in tiles")
    return table(head, lines)


def _kept(row, whole):
    if row is whole:
        return "the whole text"
    if row["layers"] != "all":
        return "a window in every second layer"
    return f"the newest, {row['sinks']} sink{'s' * (row['sinks'] != 1)}" if row["sinks"] else "the newest only"
