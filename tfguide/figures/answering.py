"""Section 7.5 in pictures: the way of a question, what finds its source, and when nothing fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.figures import canvas
from tfguide.figures.style import PALETTE, WIDTH, ink, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

NAMES = {"none": "kernels alone", "torch": "PyTorch", "tensorflow": "TensorFlow"}
_STEPS = (
    ("passages", "cut at headings, once", 0),
    ("vectors and words", "MiniLM and BM25: 8 of them", 1),
    ("reading", "SmolLM2: where does the question fit?", 2),
    ("answer", "written from the best, and its sentence quoted", 3),
)


def way() -> Figure:
    """The way of a question from the documents to the answer, as boxes one below the other."""
    with style():
        ax = canvas.canvas(WIDTH, 3.2)
        for place, (title, below, colour) in enumerate(_STEPS):
            top = 0.1 + 0.78 * place
            canvas.box(ax, 1.75, top, 3.3, 0.55, title, PALETTE[colour], below)
            if place:
                canvas.arrow(ax, (3.4, top - 0.22), (3.4, top - 0.02))
        canvas.box(ax, 0.1, 0.88, 1.2, 0.55, "question", PALETTE[4])
        canvas.arrow(ax, (1.3, 1.155), (1.73, 1.155))
        canvas.text(ax, 0.7, 1.75, "below the threshold:\nnothing fits", size=9)
        canvas.arrow(ax, (1.73, 1.35), (1.15, 1.6))
        return ax.figure


def finding_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """The ways to find a passage: the questions whose source is right, recall, and the mean reciprocal rank."""
    head = ("", "right source", "recall@1", "@3", "@10", "MRR")
    return table(head, [_finding(row) for row in rows], numbers=True)


def _finding(row):
    pages = f", {row['pages']} pages" if row["pages"] > 1 else ""
    recalls = (f"{value:.2f}" for value in row["recall"].values())
    return f"{row['name']}{pages}", f"{row['source']} of {row['questions']}", *recalls, f"{row['mrr']:.2f}"


def refusals(rows: Sequence[Mapping[str, float]], least: float) -> Figure:
    """The wrong decisions by the threshold: answered questions that are refused, and others that are answered."""
    names = {"refused": "refused, though answered", "near": "answered: other tools", "far": "answered: other matters"}
    with style():
        fig, ax = plt.subplots(figsize=size(0.5))
        for colour, (key, name) in zip(PALETTE, names.items(), strict=False):
            ax.plot([row["least"] for row in rows], [row[key] for row in rows], "o-", color=colour, label=name)
        ax.axvline(least, color=ink(), linewidth=0.8, linestyle=":")
        ax.set_xlabel("least score of the best passage")
        ax.set_ylabel("share decided wrongly")
        ax.legend()
    return fig


def kept_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """Seconds to the first token with the page read anew and kept, and the memory that keeping takes."""
    head = ("", "page, tokens", "read anew", "kept", "times sooner", "memory")
    return table(head, [_kept(row) for row in rows], numbers=True)


def _kept(row):
    anew, kept = (f"{1e3 * row['seconds'][name]:.0f} ms" for name in ("anew", "kept"))
    return (
        NAMES[row["framework"]],
        row["page_tokens"],
        anew,
        kept,
        f"{row['ratio']:.1f}",
        f"{row['bytes'] / 1e6:.1f} MB",
    )
