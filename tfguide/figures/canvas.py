"""Boxes, cells, arrows and lines: what the diagrams of the book are made of.

A diagram of boxes is drawn in inches from the top left corner of its figure, on the axes that `canvas` gives. Cells,
arrows and lines are drawn in the units of any axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from tfguide.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]


def canvas(width: float, height: float) -> Axes:
    """Axes that fill a new figure of `width` by `height` inches, measured in inches from its top left corner."""
    fig = plt.figure(figsize=(width, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.axis("off")
    return ax


def text(ax: Axes, x: float, y: float, words: str, size: float = 10, **look) -> None:
    """Words at (x, y), centred there (default); `look` goes to matplotlib's `Axes.text`."""
    ax.text(x, y, words, **{"ha": "center", "va": "center", "fontsize": size} | look)


def box(
    ax: Axes, x: float, y: float, width: float, height: float, title: str, colour: str, below: str = "", *,
    size: float = 11.0, gap: float = 0.115, dashed: bool = False,
) -> None:  # fmt: skip
    """A box with round corners on a canvas: its top left corner at (x, y), a bold title, a smaller text below it.

    size: the points of the title; gap: how far title and text lie from the middle, in inches.
    """
    _rounded(ax, x, y, width, height, 0.07).set(
        facecolor=to_rgba(colour, 0.16), edgecolor=colour, linewidth=1.6, linestyle=(0, (4, 2)) if dashed else "-"
    )
    centre, middle = x + width / 2, y + height / 2
    text(ax, centre, middle - (gap if below else 0), title, size, fontweight="bold")
    if below:
        text(ax, centre, middle + gap, below)


def frame(ax: Axes, left: float, top: float, right: float, bottom: float, words: str) -> None:
    """A thin frame on a canvas around what belongs together, with words in its top left corner."""
    _rounded(ax, left, top, right - left, bottom - top, 0.12).set(
        facecolor="none", edgecolor=style.ink(), linewidth=1.0, alpha=0.7
    )
    text(ax, left + 0.1, top + 0.15, words, ha="left")


def cell(
    ax: Axes, x: float, y: float, width: float, height: float, colour: str | None = None, *,
    opacity: float = 0.38, edge: object = None, linewidth: float = 0.8, dash: object = "-", label: str = "",
    size: float = 11.0,
) -> None:  # fmt: skip
    """A rectangle from the corner (x, y): a matrix, an entry of one, a span of time.

    colour: of the filling, None for an empty cell; opacity: of that colour; edge: the colour of the line around it
    (default: the colour of the text); dash: its pattern; label: what stands in the middle, in letters of `size` points.
    """
    face = "none" if colour is None else to_rgba(colour, opacity)
    edge = style.ink() if edge is None else edge
    ax.add_patch(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge, linewidth=linewidth, linestyle=dash))
    if label:
        text(ax, x + width / 2, y + height / 2, label, size)


def line(ax: Axes, *points: Point, colour: str | None = None, width: float = 1.4, dash: object = "-") -> None:
    """A line through the points, in the colour of the text (default)."""
    look = {"color": colour or style.ink(), "linewidth": width, "linestyle": dash, "solid_joinstyle": "round"}
    ax.plot(*zip(*points, strict=True), **look)


def arrow(
    ax: Axes, *points: Point, colour: str | None = None, width: float = 1.4, head: str = "-|>", back: float = 0
) -> None:
    """An arrow through the points, in the colour of the text (default); its head lies at the last one.

    head: matplotlib's name of the arrow; back: how many points behind the start it begins.
    """
    if len(points) > 2:
        line(ax, *points[:-1], colour=colour, width=width)
    look = {"arrowstyle": head, "mutation_scale": 10, "linewidth": width, "color": colour or style.ink()}
    ax.add_patch(FancyArrowPatch(*points[-2:], shrinkA=back, shrinkB=0, clip_on=False, **look))


def _rounded(ax, x, y, width, height, radius):
    shape = f"round,pad=0,rounding_size={radius}"
    return ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape))
