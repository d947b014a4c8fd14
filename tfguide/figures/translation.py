"""What each word of a translation looks at in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.style import heat_map, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure


def cross_attention(maps: Mapping[str, np.ndarray], source: Sequence[str], target: Sequence[str]) -> Figure:
    """Maps below each other on one colour scale: words of the translation in rows, pieces of the source in columns.

    maps: for each title the weights (T, S); source, target: what stands at the columns and at the rows.
    """
    height = 0.052 * len(target) + 0.1
    with style():
        fig, axes = plt.subplots(len(maps), 1, figsize=size(height * len(maps)), squeeze=False)
        for ax, (title, weights) in zip(axes.flat, maps.items(), strict=True):
            heat_map(ax, weights, vmin=0, vmax=1)
            ax.set_title(title)
            ax.set_xticks(range(len(source)), source)
            ax.set_yticks(range(len(target)), target)
    return fig


def strongest(weights: np.ndarray, source: Sequence[str], target: Sequence[str]) -> list[tuple[str, str]]:
    """Each word of the translation, and the piece of the source with its largest weight (T, S)."""
    return [(word, source[i]) for word, i in zip(target, weights.argmax(axis=1), strict=True)]


def scores_table(found: Mapping[str, Any]) -> HTML:
    """The scores of the result of `tfguide.bench.translation`: a line for the nearest source and for each search."""
    lines = {"nearest known source": [found["nearest"]["scores"]]}
    for name in next(iter(found["searches"].values())):
        lines[name] = [searches[name]["scores"] for searches in found["searches"].values()]
    head = list(found["nearest"]["scores"])
    times = {name: _times(found, name) for name in lines}
    rows = [[name, *(_both(each, metric) for metric in head), times[name]] for name, each in lines.items()]
    return table(["", *head, "time of one text"], rows, numbers=True)


def wrong_table(found: Mapping[str, Any], framework: str = "torch", search: str = "greedy", most: int = 8) -> HTML:
    """Pairs that a search translates wrongly: the source, what was written and what is right."""
    some = found["searches"][framework][search]["wrong"][:most]
    rows = [[one["source"], one["translation"], one["wanted"]] for one in some]
    return table(["source", "translation", "right"], rows or [["none", "", ""]])


def _both(scores, metric):
    """A score where the frameworks agree as far as it is shown, else each one's."""
    shown = [f"{one[metric]:.1f}" if metric == "BLEU" else f"{one[metric]:.3f}" for one in scores]
    return " / ".join(dict.fromkeys(shown))


def _times(found, name):
    each = [searches[name]["seconds"] for searches in found["searches"].values() if name in searches]
    return " / ".join(f"{1e3 * seconds:.0f} ms" for seconds in each) or "-"
