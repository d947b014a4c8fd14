"""From a text to integers as a diagram: one row of cells for what each step of a tokenizer makes of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.patches import Circle

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _EDGE, _CELL = 5.2, 0.08, 0.27  # inches: of the figure, of its margins, the height of a cell
_LETTER, _SMALL, _GAP = 0.069, 0.058, 0.05  # inches: a letter of 9 points, one of 8, and what separates two cells


@dataclass(frozen=True)
class Stage:
    """A step: its title, the cells that it makes, and what stands in small letters below each of them.

    marked: the cells that this step has added or cut, which get the second colour.
    """

    title: str
    cells: Sequence[str]
    below: Sequence[Sequence[object]] = ()
    marked: Sequence[int] = ()


def stages(text: str, steps: Sequence[Stage]) -> Figure:
    """A text, and below it one numbered row of cells for each step.

    Raises ValueError where a row is wider than a telephone can show.
    """
    heights = [0.78 + 0.19 * len(step.below) for step in steps]
    with style.style():
        ax = canvas.canvas(_WIDTH, 0.5 + sum(heights))
        canvas.text(ax, _WIDTH / 2, 0.2, f"“{text}”", 12)
        top = 0.42
        for number, (step, height) in enumerate(zip(steps, heights, strict=True), 1):
            _heading(ax, top + 0.16, number, step.title)
            _cells(ax, top + 0.36, step)
            top += height
    return ax.figure


def _heading(ax, y, number, title):
    ax.add_patch(Circle((_EDGE + 0.13, y), 0.13, facecolor=style.BLUE, edgecolor="none"))
    canvas.text(ax, _EDGE + 0.13, y + 0.01, str(number), 9.5, fontweight="bold", color="#ffffff")
    canvas.text(ax, _EDGE + 0.35, y, title, 10.5, ha="left", fontweight="bold")


def _cells(ax, top, step):
    widths = [_width(word, [row[i] for row in step.below]) for i, word in enumerate(step.cells)]
    needed, most = sum(widths) + _GAP * (len(widths) - 1), _WIDTH - 2 * _EDGE
    if needed > most:
        raise ValueError(f"a row of at most {most} inches was expected, {step.title!r} needs {needed:.1f}")
    x = _EDGE
    for i, (word, width) in enumerate(zip(step.cells, widths, strict=True)):
        colour = style.GOLD if i in step.marked else style.BLUE
        canvas.cell(ax, x, top, width, _CELL, colour, opacity=0.22, edge=colour, label=word, size=9)
        for row, values in enumerate(step.below):
            canvas.text(ax, x + width / 2, top + _CELL + 0.12 + 0.18 * row, str(values[i]), 8)
        x += width + _GAP


def _width(word, below):
    return max(0.24, _LETTER * len(word) + 0.1, *(_SMALL * len(str(value)) + 0.1 for value in below))
