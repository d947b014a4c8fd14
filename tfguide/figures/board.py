"""Rows of matrices under titles, every matrix drawn to scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A matrix: its name, rows, columns, the letters of both, and a colour, or a list of colours, one for each head.
Matrix = tuple[str, float, float, str, str, str | list[str]]


class Board:
    """Rows of matrices, laid out downwards in units of one matrix element; each call starts below the last one."""

    def __init__(self, width: float, columns: float, gaps: int):
        """width: of the figure in inches; columns, gaps: the elements and the spaces of the widest row."""
        self.inches = width
        self.unit = columns / (width - 0.27 - 0.46 * gaps)  # matrix elements to the inch
        self.y = 0.0  # grows downwards
        self.ax = plt.figure(figsize=(width, 1)).add_subplot()

    def title(self, words: str, detail: str) -> None:
        """A bold title, and a line below it if there is one."""
        y = self.y + 0.22 * self.unit
        canvas.text(self.ax, 0, y, words, 11, ha="left", fontweight="bold")
        if detail:
            canvas.text(self.ax, 0, y + 0.2 * self.unit, detail, ha="left")
        self.y += (0.52 if detail else 0.34) * self.unit

    def product(self, factors: Sequence[Matrix], result: Matrix, sign: str = "=") -> None:
        """Two factors and their product, or a matrix and what becomes of it."""
        self.row([*factors, result], signs="·" * (len(factors) - 1) + sign)

    def row(self, matrices: Sequence[Matrix], signs: str = "", stretch: float = 0.0) -> None:
        """Matrices side by side with signs between them; `stretch` widens the gaps."""
        unit = self.unit
        top = self.y + 0.22 * unit  # room for the letters above
        height = max(matrix[1] for matrix in matrices)
        x = 0.22 * unit
        for i, (name, rows, columns, row_letter, column_letter, colour) in enumerate(matrices):
            if i and signs:
                canvas.text(self.ax, x - 0.31 * unit, top + height / 2, signs[i - 1], 13)
            y = top + (height - rows) / 2
            self._matrix(x, y, rows, columns, colour)
            canvas.text(self.ax, x + columns / 2, y + rows / 2, _subscript(name), 11)
            canvas.text(self.ax, x + columns / 2, y - 0.1 * unit, column_letter)
            turned = 90 if len(row_letter) > 1 else 0
            canvas.text(self.ax, x - 0.11 * unit, y + rows / 2, row_letter, rotation=turned)
            x += columns + 0.46 * unit + stretch
        self.y = top + height + 0.16 * unit

    def figure(self) -> Figure:
        """The figure, as high as its rows."""
        self.ax.set_xlim(0, self.unit * self.inches)
        self.ax.set_ylim(self.y, 0)
        self.ax.set_aspect("equal")
        self.ax.axis("off")
        self.ax.figure.set_size_inches(self.inches, self.y / self.unit)
        return self.ax.figure

    def _matrix(self, x, y, rows, columns, colour):
        colours = colour if isinstance(colour, list) else [colour]
        width = columns / len(colours)
        for i, part in enumerate(colours):
            # A matrix in the colour of the text is pale, so that its name can be read.
            canvas.cell(self.ax, x + i * width, y, width, rows, part, opacity=0.1 if part == style.ink() else 0.38)


def _subscript(name: str) -> str:
    """A name such as W_q as mathematics with an upright subscript."""
    if "_" not in name:
        return name
    base, below = name.split("_")
    return rf"${base}_{{\mathrm{{{below}}}}}$"
