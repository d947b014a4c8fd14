"""The five steps of inference as a diagram, with what the source's list of steps leaves out in a colour of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Circle

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT, _RIGHT = 0.79, 4.19  # the column of boxes, in inches
_MIDDLE = (_LEFT + _RIGHT) / 2


def five_steps() -> Figure:
    """Encode, scores, softmax, context, output: one block of an encoder, and what stands before and after it."""
    with style.style():
        ax = canvas.canvas(5.08, 9.3)
        canvas.text(ax, _MIDDLE, 0.22, "“Hello, my dog is cute”", 12)
        _arrow(ax, 0.40, 0.68, "tokenizer: T token ids")
        _step(ax, 0.68, 0.66, 1, "Encode the input", "token + position vectors, norm")
        _arrow(ax, 1.34, 2.24, "x  (T, D)", at=1.51)

        canvas.frame(ax, 0.06, 1.72, 5.02, 8.02, "block, L times")
        _residual(ax, 1.98, 5.81)
        _left_out(ax, 2.24, 0.50, "Q, K, V: three maps of x")
        _arrow(ax, 2.74, 3.04, "(T, H, d) each")
        _step(ax, 3.04, 0.50, 2, "Scores  Z = Q Kᵀ / √d")
        _arrow(ax, 3.54, 3.84, "(H, T, T)")
        _step(ax, 3.84, 0.50, 3, "Weights  A = softmax(Z)")
        _arrow(ax, 4.34, 4.64, "(H, T, T)")
        _step(ax, 4.64, 0.66, 4, "Context  C = A V", "heads side by side, one output map")
        _arrow(ax, 5.30, 5.60, "(T, D)")
        _left_out(ax, 5.60, 0.42, "add x, then norm")
        _arrow(ax, 6.02, 6.56, "(T, D)", at=6.16)
        _residual(ax, 6.32, 7.57)
        _step(ax, 6.56, 0.50, 5, "Feed-forward network")
        _arrow(ax, 7.06, 7.36, "(T, D)")
        _left_out(ax, 7.36, 0.42, "add its input, then norm")

        _arrow(ax, 7.78, 8.36, "(T, D), to the next block or out", at=8.19)
        _left_out(ax, 8.36, 0.50, "Output head")
        canvas.text(ax, _MIDDLE, 9.06, "a sentence vector, a label, or logits")
    return ax.figure


def _step(ax, top, height, number, title, below=""):
    """One of the source's steps, with its number in a disc beside the box."""
    canvas.box(ax, _LEFT, top, _RIGHT - _LEFT, height, title, style.BLUE, below, size=11.5, gap=0.14)
    at = (0.42, top + height / 2)
    ax.add_patch(Circle(at, 0.20, facecolor=style.BLUE, edgecolor="none", zorder=4))
    canvas.text(ax, at[0], at[1] + 0.01, str(number), 12, fontweight="bold", color="#ffffff", zorder=5)


def _left_out(ax, top, height, title):
    """What the source's list leaves out."""
    canvas.box(ax, _LEFT, top, _RIGHT - _LEFT, height, title, style.RED, size=11.5, dashed=True)


def _arrow(ax, top, bottom, label, at=None):
    """An arrow down the middle, and its label beside it: half way (default), or at a height."""
    canvas.arrow(ax, (_MIDDLE, top), (_MIDDLE, bottom))
    canvas.text(ax, _MIDDLE + 0.14, (top + bottom) / 2 - 0.02 if at is None else at, label, ha="left")


def _residual(ax, start, end):
    """The input of a sublayer, carried past it."""
    side = 4.70
    canvas.arrow(ax, (_MIDDLE, start), (side, start), (side, end), (_RIGHT, end), colour=style.RED, width=1.6)
