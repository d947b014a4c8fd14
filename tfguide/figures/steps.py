"""The five steps of inference as a diagram, with what the source's list of steps leaves out in a colour of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from tfguide.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT, _RIGHT = 0.95, 4.35  # the column of boxes, in inches
_MIDDLE = (_LEFT + _RIGHT) / 2


def five_steps() -> Figure:
    """Encode, scores, softmax, context, output: one block of an encoder, and what stands before and after it."""
    with style.style():
        fig = plt.figure(figsize=(5.0, 9.15), layout="none")
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set_xlim(0.16, 5.24)
        ax.set_ylim(9.3, 0)
        ax.axis("off")

        ax.text(_MIDDLE, 0.22, "“Hello, my dog is cute”", ha="center", va="center", fontsize=12)
        _arrow(ax, 0.40, 0.68, "tokenizer: T token ids")
        _box(ax, 0.68, 0.66, "Encode the input", "token + position vectors, norm", style.BLUE, step=1)
        _arrow(ax, 1.34, 2.24, "x  (T, D)", at=1.51)

        _frame(ax, 1.72, 8.02)
        _bypass(ax, 1.98, 5.81)
        _box(ax, 2.24, 0.50, "Q, K, V: three maps of x", "", style.RED, missing=True)
        _arrow(ax, 2.74, 3.04, "(T, H, d) each")
        _box(ax, 3.04, 0.50, "Scores  Z = Q Kᵀ / √d", "", style.BLUE, step=2)
        _arrow(ax, 3.54, 3.84, "(H, T, T)")
        _box(ax, 3.84, 0.50, "Weights  A = softmax(Z)", "", style.BLUE, step=3)
        _arrow(ax, 4.34, 4.64, "(H, T, T)")
        _box(ax, 4.64, 0.66, "Context  C = A V", "heads side by side, one output map", style.BLUE, step=4)
        _arrow(ax, 5.30, 5.60, "(T, D)")
        _box(ax, 5.60, 0.42, "add x, then norm", "", style.RED, missing=True)
        _arrow(ax, 6.02, 6.56, "(T, D)", at=6.16)
        _bypass(ax, 6.32, 7.57)
        _box(ax, 6.56, 0.50, "Feed-forward network", "", style.BLUE, step=5)
        _arrow(ax, 7.06, 7.36, "(T, D)")
        _box(ax, 7.36, 0.42, "add its input, then norm", "", style.RED, missing=True)

        _arrow(ax, 7.78, 8.36, "(T, D), to the next block or out", at=8.19)
        _box(ax, 8.36, 0.50, "Output head", "", style.RED, missing=True)
        ax.text(_MIDDLE, 9.06, "a sentence vector, a label, or logits", ha="center", va="center", fontsize=10)
    return fig


def _box(ax, top, height, title, below, colour, step=None, missing=False):
    box = FancyBboxPatch((_LEFT, top), _RIGHT - _LEFT, height, boxstyle="round,pad=0,rounding_size=0.08")
    box.set(facecolor=(*_rgb(colour), 0.16), edgecolor=colour, linewidth=1.6, linestyle=(0, (4, 2)) if missing else "-")
    ax.add_patch(box)
    middle = top + height / 2
    if below:
        ax.text(_MIDDLE, middle - 0.13, title, ha="center", va="center", fontsize=11.5, fontweight="bold")
        ax.text(_MIDDLE, middle + 0.15, below, ha="center", va="center", fontsize=10)
    else:
        ax.text(_MIDDLE, middle, title, ha="center", va="center", fontsize=11.5, fontweight="bold")
    if step is not None:
        ax.add_patch(Circle((0.58, middle), 0.20, facecolor=colour, edgecolor="none", zorder=4))
        number = dict(ha="center", va="center", fontsize=12, fontweight="bold", color="#ffffff", zorder=5)
        ax.text(0.58, middle + 0.01, str(step), **number)


def _arrow(ax, top, bottom, label, at=None):
    """An arrow down the middle, and its label beside it: half way, or at a height."""
    ax.add_patch(
        FancyArrowPatch(
            (_MIDDLE, top), (_MIDDLE, bottom), arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0, linewidth=1.4,
            color=style.ink(),
        )
    )  # fmt: skip
    if label:
        at = (top + bottom) / 2 - 0.02 if at is None else at
        ax.text(_MIDDLE + 0.14, at, label, ha="left", va="center", fontsize=10)


def _frame(ax, top, bottom):
    frame = FancyBboxPatch((0.22, top), 4.96, bottom - top, boxstyle="round,pad=0,rounding_size=0.14")
    frame.set(facecolor="none", edgecolor=style.ink(), linewidth=1.0, alpha=0.7)
    ax.add_patch(frame)
    ax.text(0.36, top + 0.20, "block, L times", ha="left", va="center", fontsize=10)


def _bypass(ax, start, end):
    """The residual: the input of a sublayer, carried past it."""
    side = 4.86
    line = dict(color=style.RED, linewidth=1.8, linestyle="-", solid_joinstyle="round")
    ax.plot([_MIDDLE, side, side], [start, start, end], **line)
    ax.add_patch(
        FancyArrowPatch(
            (side, end), (_RIGHT, end), arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0, linewidth=1.8,
            color=style.RED,
        )
    )  # fmt: skip


def _rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
