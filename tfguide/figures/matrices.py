"""Products of matrices drawn to scale: the two conventions, and multi-head attention as a sum over heads."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tfguide.figures import style

_T, _D, _d = 1.35, 0.95, 0.55  # how long T, D and d are drawn, in inches


def conventions() -> Figure:
    """One projection with tokens as rows, the same with tokens as columns, and the product of the source's 4.1."""
    rows = (
        (
            "Rows are tokens: the convention of this book",
            (("X", _T, _D, "T", "D", style.BLUE), "", ("W", _D, _d, "D", "d", style.GOLD), "=",
             ("Q", _T, _d, "T", "d", style.TEAL)),
        ),
        (
            "Columns are tokens: its transposed twin",
            ((r"W$^\top$", _d, _D, "d", "D", style.GOLD), "", (r"X$^\top$", _D, _T, "D", "T", style.BLUE), "=",
             (r"Q$^\top$", _d, _T, "d", "T", style.TEAL)),
        ),
        (
            "The source's Q Kᵀ: the inner sizes differ",
            (("Q", _d, _D, "d", "D", style.TEAL), "", (r"K$^\top$", _T, _d, "T", "d", style.TEAL), "= ?"),
        ),
    )  # fmt: skip
    with style.style():
        fig = plt.figure(figsize=(5.2, 6.9), layout="none")
        ax = _canvas(fig, 5.2, 6.9)
        for (title, parts), top in zip(rows, (6.75, 4.3, 2.2), strict=True):
            tallest = max(part[1] for part in parts if not isinstance(part, str))
            middle = top - 0.68 - tallest / 2
            ax.text(0.1, top, title, fontsize=11, fontweight="bold", va="top")
            _row(ax, parts, 0.45, middle)
        reason = "D columns meet T rows:\nno product, unless the\ntext has exactly D tokens"
        ax.text(2.95, 0.85, reason, fontsize=10, color=style.RED, va="center")
    return fig


def sum_over_heads() -> Figure:
    """The concatenation of three heads times the output matrix, and the same as a sum of three products."""
    colours = (style.BLUE, style.GOLD, style.TEAL)
    T, d, D = 1.2, 0.5, 1.5
    with style.style():
        fig = plt.figure(figsize=(5.2, 6.0), layout="none")
        ax = _canvas(fig, 5.2, 6.0)
        ax.text(0.1, 5.9, "The concatenation times the output matrix", fontsize=11, fontweight="bold", va="top")
        middle = 4.45
        for h, colour in enumerate(colours):
            _matrix(ax, 0.55 + h * d, middle - T / 2, d, T, f"C$_{h + 1}$", colour)
            _matrix(ax, 2.55, middle + 0.75 - (h + 1) * d, D, d, f"W$_o^{h + 1}$", colour)
        ax.text(0.45, middle, "T", ha="right", va="center")
        ax.text(0.55 + 1.5 * d, middle - T / 2 - 0.08, "H d", ha="center", va="top")
        ax.text(2.47, middle, "H d", ha="right", va="center")
        ax.text(2.55 + D / 2, middle - 0.85, "D", ha="center", va="top")
        ax.text(4.3, middle, "=", fontsize=14, ha="center", va="center")
        ax.text(0.1, 3.15, "is a sum of one product for each head", fontsize=11, fontweight="bold", va="top")
        middle = 1.75
        for h, colour in enumerate(colours):
            left = 0.5 + h * 1.62
            _matrix(ax, left, middle - T / 2, d, T, f"C$_{h + 1}$", colour)
            _matrix(ax, left + d + 0.06, middle - 0.15, 0.72, d * 0.6, f"W$_o^{h + 1}$", colour)
            if h < 2:
                ax.text(left + 1.45, middle, "+", fontsize=14, ha="center", va="center")
            ax.text(left + d / 2, middle - T / 2 - 0.08, "d", ha="center", va="top")
            ax.text(left + d + 0.42, middle - 0.22, "d × D", ha="center", va="top", fontsize=9)
        ax.text(0.4, middle, "T", ha="right", va="center")
        ax.text(0.1, 0.55, "Each term is T × D: what one head writes into the stream.", fontsize=10, va="center")
    return fig


def _canvas(fig, width, height):
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.axis("off")
    return ax


def _row(ax, parts, left, middle):
    """Matrices (name, height, width, rows, columns, colour) and signs, from left to right, centred on one line."""
    for part in parts:
        if isinstance(part, str):
            ax.text(left + 0.1, middle, part, fontsize=14, ha="left", va="center")
            left += 0.6 if part else 0.45
            continue
        name, height, width, n_rows, n_columns, colour = part
        _matrix(ax, left, middle - height / 2, width, height, name, colour)
        ax.text(left - 0.07, middle, n_rows, ha="right", va="center")
        ax.text(left + width / 2, middle - height / 2 - 0.06, n_columns, ha="center", va="top")
        left += width


def _matrix(ax, x, y, width, height, name, colour):
    ax.add_patch(Rectangle((x, y), width, height, facecolor=to_rgba(colour, 0.3), edgecolor=style.ink(), linewidth=0.9))
    ax.text(x + width / 2, y + height / 2, name, ha="center", va="center", fontsize=12)
