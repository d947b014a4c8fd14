"""The tables and the figure of the conformance appendix: the differences to the reference, against the limit.

A row is what a test of `tests/conformance` recorded of one model in one framework: its choices and its
`largest_difference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures.style import BLUE, GOLD, ink, size, style
from tfguide.figures.tables import Cell, grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
PARTS = {  # as the rows name them, in the order of the table
    "Attention": (
        "windows in every layer", "windows by layer", "normalised queries and keys", "sinks in the softmax",
        "capped scores", "another scale of the scores", "latent attention",
    ),
    "Experts": ("softmax router, a shared expert, a dense layer", "sigmoid router, groups, a correction"),
    "Rotary positions": (
        "rotated in part", "another base for layers with a window", "linear scaling", "dynamic scaling",
        "llama3 scaling", "yarn scaling", "longrope scaling",
    ),
    "Norms": (
        "before each sublayer", "after the sum", "before both sublayers, side by side", "on both sides of a sublayer",
        "after the embedding",
    ),
    "Scales and caps": (
        "of the embedding", "of what a sublayer adds", "of the states before the head", "capped logits",
    ),
}  # fmt: skip
Rows = Sequence[Mapping[str, Any]]


def worst(rows: Rows, **wanted: object) -> float:
    """The largest difference among the rows that have the wanted values."""
    return max(row["largest_difference"] for row in rows if all(row[key] == value for key, value in wanted.items()))


def differences_table(rows: Rows, down: str, across: str | None = None) -> HTML:
    """The largest differences in units of 1e-6: a line for each value of `down`, columns for each framework.

    down, across: keys of the rows; with `across` a framework has a column for each value of that key.
    """
    inner = [{across: value} for value in _values(rows, across)] if across else [{}]
    columns = [{"framework": name} | more for name in FRAMEWORKS for more in inner]
    frameworks = [down.replace("_", " "), *(Cell(name, columns=len(inner)) for name in FRAMEWORKS.values())]
    lines = [
        [value, *(f"{worst(rows, **{down: value}, **column) * 1e6:.1f}" for column in columns)]
        for value in _values(rows, down)
    ]
    if across is None:
        return table(frameworks, lines)
    return table(["", *(column[across] for column in columns)], lines, above=frameworks)


def parts_table(rows: Rows) -> HTML:
    """The largest differences of the models that have a part, in units of 1e-6, and how many models those are."""
    lines = []
    for group, parts in PARTS.items():
        for part in parts:
            some = [row for row in rows if part in row["parts"]]
            numbers = (f"{worst(some, framework=name) * 1e6:.1f}" for name in FRAMEWORKS)
            lines.append((group, (part, *numbers, len(some) // len(FRAMEWORKS))))
    return grouped_table(("part", *FRAMEWORKS.values(), "models"), lines)


def _values(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def difference_histogram(differences: Mapping[str, Sequence[float]], limit: float) -> Figure:
    """Histograms of the largest differences, one for each name, on one logarithmic axis with the limit."""
    values = [value for some in differences.values() for value in some]
    edges = np.logspace(np.floor(np.log10(min(values))), np.ceil(np.log10(max(limit, *values))), 45)
    with style():
        fig, axes = plt.subplots(
            len(differences), 1, figsize=size(0.31 * len(differences)), sharex=True, sharey=True, squeeze=False
        )
        for ax, (name, some), colour in zip(axes[:, 0], differences.items(), (BLUE, GOLD), strict=False):
            ax.hist(some, edges, color=colour)
            ax.axvline(limit, color=ink(), linewidth=1.4, linestyle=(0, (4, 2)))
            ax.set_xscale("log")
            ax.set_title(name)
            ax.set_ylabel("models")
        axes[0, 0].annotate(
            "limit", (limit, 1), (-6, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right", va="top",
        )  # fmt: skip
        axes[-1, 0].set_xlabel("largest difference to the float64 reference")
    return fig
