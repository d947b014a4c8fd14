"""A column of boxes through which data flow downwards, with the residuals that run beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Circle

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESIDUAL = style.RED


class Flow:
    """A column of boxes on a canvas, drawn downwards in inches; each call starts where the last one ended."""

    def __init__(self, ax: Axes, left: float, right: float, top: float, size: float = 11.0):
        """left, right: the sides of the boxes; top: where the column begins; size: the points of the titles."""
        self.ax, self.left, self.right, self.y, self.size = ax, left, right, top, size
        self.middle = (left + right) / 2
        self.side = right + 0.22  # where the residual runs
        self._from = 0.0  # where the open residual left the column

    def text(self, words: str, bold: bool = False) -> None:
        """A line of words without a box."""
        self.y += 0.14
        canvas.text(self.ax, self.middle, self.y, words, self.size, fontweight="bold" if bold else None)
        self.y += 0.3 if bold else 0.16

    def arrow(self, length: float = 0.28) -> None:
        """An arrow of `length` downwards; none where the length is 0."""
        if length:
            canvas.arrow(self.ax, (self.middle, self.y), (self.middle, self.y + length))
            self.y += length

    def box(self, title: str, colour: str, below: str = "") -> float:
        """A box with a title and, if given, a line below it; returns the height of its middle."""
        height = 0.52 if below else 0.32
        canvas.box(self.ax, self.left, self.y, self.right - self.left, height, title, colour, below, size=self.size)
        self.y += height
        return self.y - height / 2

    def branch(self, back: float, lead: float = 0.0) -> None:
        """Start a residual, `back` above the end of the last arrow, after drawing an arrow of length `lead`."""
        self.arrow(lead)
        self._from = self.y - back

    def merge(self, tail: float = 0.0) -> None:
        """Add the open residual to the flow: a circle with a plus, and a line of length `tail` below it."""
        ax, middle, radius = self.ax, self.middle, 0.105
        canvas.arrow(ax, (middle, self.y), (middle, self.y + 0.2))
        centre = self.y + 0.2 + radius
        ax.add_patch(Circle((middle, centre), radius, facecolor="none", edgecolor=RESIDUAL, linewidth=1.6))
        red = {"colour": RESIDUAL, "width": 1.6}
        for dx, dy in ((0.6 * radius, 0), (0, 0.6 * radius)):
            canvas.line(ax, (middle - dx, centre - dy), (middle + dx, centre + dy), **red)
        past = (self.side, self._from), (self.side, centre)
        canvas.arrow(ax, (middle, self._from), *past, (middle + radius, centre), **red)
        self.y = centre + radius
        if tail:
            canvas.line(ax, (middle, self.y), (middle, self.y + tail))
            self.y += tail

    def fork(self, first: tuple[str, str, str], second: tuple[str, str, str], height: float) -> None:
        """Two boxes side by side that read the same input and are added; each a title, a colour and a line below."""
        ax, gap, drop = self.ax, 0.16, 0.3
        width = (self.right - self.left - gap) / 2
        left, right = self.left + width / 2, self.right - width / 2
        split, top = self.y + drop / 2, self.y + drop
        join = top + height + drop / 2
        canvas.line(ax, (self.middle, self.y), (self.middle, split))
        canvas.line(ax, (left, split), (right, split))
        for x, (title, colour, below) in ((left, first), (right, second)):
            canvas.arrow(ax, (x, split), (x, top))
            canvas.box(ax, x - width / 2, top, width, height, title, colour, below, size=self.size, gap=0.27)
            canvas.line(ax, (x, top + height), (x, join))
        canvas.line(ax, (left, join), (right, join))
        self.y = join

    def frame(self, top: float, words: str) -> None:
        """A frame around what was drawn since `top`, residuals included."""
        canvas.frame(self.ax, self.left - 0.16, top, self.side + 0.1, self.y + 0.12, words)
