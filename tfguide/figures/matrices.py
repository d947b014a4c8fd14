"""Products of matrices drawn to scale: tokens as rows or as columns, and multi-head attention as a sum over heads."""

from __future__ import annotations

from matplotlib.figure import Figure

from tfguide.figures import canvas, style

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
        ax = canvas.canvas(5.2, 6.9)
        for (title, parts), top in zip(rows, (0.15, 2.6, 4.7), strict=True):
            tallest = max(part[1] for part in parts if not isinstance(part, str))
            _title(ax, top, title)
            _row(ax, parts, 0.45, top + 0.68 + tallest / 2)
        reason = "D columns meet T rows:\nno product, unless the\ntext has exactly D tokens"
        canvas.text(ax, 2.95, 6.05, reason, ha="left", color=style.RED)
    return ax.figure


def sum_over_heads() -> Figure:
    """The concatenation of three heads times the output matrix, and the same as a sum of three products."""
    colours = (style.BLUE, style.GOLD, style.TEAL)
    T, d, D = 1.2, 0.5, 1.5
    with style.style():
        ax = canvas.canvas(5.2, 6.0)
        _title(ax, 0.1, "The concatenation times the output matrix")
        middle = 1.55
        for h, colour in enumerate(colours):
            _matrix(ax, 0.55 + h * d, middle - T / 2, d, T, f"C$_{h + 1}$", colour)
            _matrix(ax, 2.55, middle - 0.75 + h * d, D, d, f"W$_o^{h + 1}$", colour)
        canvas.text(ax, 0.45, middle, "T", ha="right")
        canvas.text(ax, 0.55 + 1.5 * d, middle + T / 2 + 0.08, "H d", va="top")
        canvas.text(ax, 2.47, middle, "H d", ha="right")
        canvas.text(ax, 2.55 + D / 2, middle + 0.85, "D", va="top")
        canvas.text(ax, 4.3, middle, "=", 14)
        _title(ax, 2.85, "is a sum of one product for each head")
        middle = 4.25
        for h, colour in enumerate(colours):
            left = 0.5 + h * 1.62
            _matrix(ax, left, middle - T / 2, d, T, f"C$_{h + 1}$", colour)
            _matrix(ax, left + d + 0.06, middle - 0.15, 0.72, d * 0.6, f"W$_o^{h + 1}$", colour)
            if h < 2:
                canvas.text(ax, left + 1.45, middle, "+", 14)
            canvas.text(ax, left + d / 2, middle + T / 2 + 0.08, "d", va="top")
            canvas.text(ax, left + d + 0.42, middle + 0.22, "d × D", 9, va="top")
        canvas.text(ax, 0.4, middle, "T", ha="right")
        canvas.text(ax, 0.1, 5.45, "Each term is T × D: what one head writes into the stream.", ha="left")
    return ax.figure


def _title(ax, top, words):
    canvas.text(ax, 0.1, top, words, 11, ha="left", va="top", fontweight="bold")


def _row(ax, parts, left, middle):
    """Matrices (name, height, width, rows, columns, colour) and signs, from left to right, centred on one line."""
    for part in parts:
        if isinstance(part, str):
            canvas.text(ax, left + 0.1, middle, part, 14, ha="left")
            left += 0.6 if part else 0.45
            continue
        name, height, width, n_rows, n_columns, colour = part
        _matrix(ax, left, middle - height / 2, width, height, name, colour)
        canvas.text(ax, left - 0.07, middle, n_rows, ha="right")
        canvas.text(ax, left + width / 2, middle + height / 2 + 0.06, n_columns, va="top")
        left += width


def _matrix(ax, x, y, width, height, name, colour):
    canvas.cell(ax, x, y, width, height, colour, label=name, size=12)
